# The image that `cargo xtask image` makes without a Docker engine, for everyone who has one: our program, and nft for the redirect of
# pods' connections. No user is set: each pod says its own (a control plane and a sidecar are ordinary users, the redirect is not).
#
#   docker build -t registry.example.com/catamaran:0.1.0 .
#
# xtask/src/image.rs holds the two to each other.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# Another version than Cargo.toml's is for trying upgrades alone.
ARG CATAMARAN_VERSION
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin catamaran && cp target/release/catamaran /catamaran

FROM debian:12-slim
LABEL org.opencontainers.image.title="catamaran" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update && apt-get install --yes --no-install-recommends nftables && rm -rf /var/lib/apt/lists/*
COPY --from=build /catamaran /usr/local/bin/catamaran
ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
WORKDIR /
ENTRYPOINT ["/usr/local/bin/catamaran"]
