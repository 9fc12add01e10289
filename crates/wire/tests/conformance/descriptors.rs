//! The official definitions, compiled: Envoy's from the package that ships them, the others from the text below.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use prost_reflect::DescriptorPool;
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

/// The files that define the messages of the roster; what they import comes along.
const ROOTS: &[&str] = &[
    "envoy/service/discovery/v3/discovery.proto",
    "envoy/config/listener/v3/listener.proto",
    "envoy/config/route/v3/route.proto",
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/endpoint/v3/endpoint.proto",
    "envoy/extensions/access_loggers/file/v3/file.proto",
    "envoy/extensions/access_loggers/stream/v3/stream.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.proto",
    "envoy/extensions/filters/listener/original_dst/v3/original_dst.proto",
    "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto",
    "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
    "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls.proto",
    "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
];

const IMPORT_ROOTS: &[&str] = &[
    "data-plane-api",
    "xds",
    "googleapis",
    "protoc-gen-validate",
    "opentelemetry-proto",
    "client_model",
    "cel-spec/proto",
];

/// `pkg/dns/proto/nds.proto` of istio/istio; `security/v1alpha1/ca.proto` of istio/api, with the newer field 4; our own.
const OTHERS: &[(&str, &str)] = &[
    (
        "nds.proto",
        r#"
        syntax = "proto3";
        package istio.networking.nds.v1;
        message NameTable {
          message NameInfo {
            repeated string ips = 1;
            string registry = 2;
            string shortname = 3;
            string namespace = 4;
            repeated string alt_hosts = 5;
          }
          map<string, NameInfo> table = 1;
        }"#,
    ),
    (
        "ca.proto",
        r#"
        syntax = "proto3";
        package istio.v1.auth;
        import "google/protobuf/struct.proto";
        message IstioCertificateRequest {
          string csr = 1;
          int64 validity_duration = 3;
          google.protobuf.Struct metadata = 4;
        }
        message IstioCertificateResponse {
          repeated string cert_chain = 1;
        }"#,
    ),
    (
        "own.proto",
        r#"
        syntax = "proto3";
        package catamaran.v1;
        message Issuers {
          string cluster = 1;
          repeated bytes fingerprints = 2;
        }"#,
    ),
];

pub(crate) fn pool() -> DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(compile).clone()
}

/// One compiler for each root: in one that knows them all, protox takes relative names such as `config.core.v3.Metadata`
/// for names inside `envoy.extensions`.
fn compile() -> DescriptorPool {
    let protos = protos();
    let imports = IMPORT_ROOTS.iter().map(|root| protos.join(root));
    let imports: Vec<PathBuf> = imports.collect();
    let mut pool = DescriptorPool::new();
    for root in ROOTS {
        add(&mut pool, Compiler::new(&imports).unwrap(), root);
    }
    for (name, _) in OTHERS {
        let mut resolver = ChainFileResolver::new();
        resolver.add(GoogleFileResolver::new());
        resolver.add(Others);
        add(&mut pool, Compiler::with_file_resolver(resolver), name);
    }
    pool
}

fn add(pool: &mut DescriptorPool, mut compiler: Compiler, root: &str) {
    compiler.include_imports(true);
    compiler
        .open_file(root)
        .unwrap_or_else(|error| panic!("{root}: {error}"));
    let mut set = compiler.file_descriptor_set();
    set.file
        .retain(|file| pool.get_file_by_name(file.name()).is_none());
    pool.add_file_descriptor_set(set).unwrap();
}

struct Others;

impl FileResolver for Others {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match OTHERS.iter().find(|(known, _)| *known == name) {
            Some((_, source)) => File::from_source(name, source),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// The package is in the lock by a feature that nobody enables: it is downloaded for this, and never compiled.
fn protos() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--features",
            "envoy-protos",
            "--manifest-path",
        ])
        .arg(manifest)
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages
        .iter()
        .find(|package| package["name"] == "envoy-types")
        .expect("envoy-types is in the lock");
    Path::new(package["manifest_path"].as_str().unwrap()).with_file_name("proto")
}
