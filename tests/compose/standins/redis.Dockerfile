# Stands in for redis:7.2: Debian's redis-server 7.0, with the real image's user,
# data folder and command.
FROM tbg-standin/debian:bookworm
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o redis -g redis /data
WORKDIR /data
VOLUME /data
CMD ["redis-server"]
