# Stands in for Bitcoin Core in the profile signet: this project's own node, which answers
# the same RPC, under the names and the user that the compose file's service has.
FROM tbg-mining-data:proof
USER root
COPY --chmod=755 node.sh /usr/local/bin/bitcoin-node
RUN printf '#!/bin/sh\nexec probe node http://127.0.0.1:38332/\n' > /usr/local/bin/bitcoin-node-healthy \
    && chmod 755 /usr/local/bin/bitcoin-node-healthy \
    && useradd --system --uid 101 --no-create-home bitcoin \
    && install -d -o bitcoin -m 700 /var/lib/bitcoin
USER bitcoin
VOLUME /var/lib/bitcoin
ENTRYPOINT ["bitcoin-node"]
