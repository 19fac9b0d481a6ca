# The base image of ckpool's build, with a stand-in for upstream's repository in it, which
# git takes for the first mirror: what fetches, weaves and builds is the Dockerfile's own.
ARG DEBIAN
FROM ${DEBIAN}
COPY upstream.git /upstream.git
COPY gitconfig /etc/gitconfig
