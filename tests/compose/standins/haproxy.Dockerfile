# Stands in for haproxy:…-alpine: Debian's haproxy 2.6, with the number of the real
# image's user, its signal and its command.
FROM tbg-standin/debian:bookworm
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends haproxy \
    && rm -rf /var/lib/apt/lists/*
USER 99
STOPSIGNAL SIGUSR1
CMD ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
