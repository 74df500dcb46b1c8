# Three programs in one image: cairn-server, cairn-proxy, cluster-admin.
#
#   docker build -t cairn .
#
# The base images are arguments. BUILDER_BASE needs a Rust toolchain; what else a
# build needs is installed if it is missing. A builder base that sets
# ROCKSDB_LIB_DIR and ROCKSDB_STATIC=1 brings its own librocksdb.a and saves the 20
# minutes of C++ (`make docker-test` does that).
ARG BUILDER_BASE=rust:1.95-bookworm
ARG RUNTIME_BASE=debian:bookworm-slim

FROM ${BUILDER_BASE} AS builder
ARG PACKAGES="g++ make libclang-dev protobuf-compiler libprotobuf-dev mold"
RUN dpkg -s ${PACKAGES} >/dev/null 2>&1 \
    || (apt-get update && apt-get install -y --no-install-recommends ${PACKAGES} \
        && rm -rf /var/lib/apt/lists/*)
WORKDIR /src
COPY . .
RUN cargo build --release --locked --target-dir /build \
        --package cairn-server --package cairn-proxy --package cluster-admin \
    && mkdir /out \
    && for program in cairn-server cairn-proxy cluster-admin; do \
        strip --strip-debug -o /out/${program} /build/release/${program}; \
    done \
    && rm -rf /build

FROM ${RUNTIME_BASE}
# A fixed id, so that the owner of a mounted volume can be set from outside.
RUN groupadd --system --gid 10001 cairn \
    && useradd --system --uid 10001 --gid cairn --home-dir /data --shell /usr/sbin/nologin cairn \
    && install -d -o cairn -g cairn -m 0750 /data
COPY --from=builder /out/ /usr/local/bin/
USER cairn
WORKDIR /data
VOLUME /data
EXPOSE 6379 16379
# PING by bash alone: the image has no redis-cli. "NOAUTH" is health, too.
ENV CAIRN_HEALTH_PORT=6379
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 CMD \
    ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/$CAIRN_HEALTH_PORT && printf 'PING\\r\\n' >&3 && read -rt 3 reply <&3 && [[ $reply == +PONG* || $reply == -NOAUTH* ]]"]
# A container's loopback reaches nobody. Who publishes the port decides who may
# connect; set --requirepass where that is not enough.
CMD ["cairn-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--data-dir", "/data"]
