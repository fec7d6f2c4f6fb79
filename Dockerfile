# weft in an image: docker build -t weft . && docker run -v "$PWD/proxy.yaml":/etc/weft/proxy.yaml:ro -p 6380:6380 weft
#
# In a container weft listens on 0.0.0.0, since loopback is the container's own; therefore proxy.yaml has to set a password.

FROM rust:1-bookworm AS build
WORKDIR /weft
COPY . .
RUN cargo build --release --locked --bin weft

FROM debian:bookworm-slim
COPY --from=build /weft/target/release/weft /usr/local/bin/weft
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 6380
# Whoever answers a PING serves, also by asking for a password.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/6380 && printf 'PING\\r\\n' >&3 && read -r reply <&3 && [[ $reply == +PONG* || $reply == -NOAUTH* ]]"]
ENTRYPOINT ["weft"]
CMD ["--config", "/etc/weft/proxy.yaml"]
