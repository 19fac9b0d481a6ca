# Stands in for python:3.11-slim-bookworm: Debian's own Python 3.11, at the paths
# that the real image has it.
FROM tbg-standin/debian:bookworm
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends python3 python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && for name in python python3 python3.11; do ln -s /usr/bin/python3.11 /usr/local/bin/$name; done \
    && ln -s /usr/bin/pip3 /usr/local/bin/pip
CMD ["python3"]
