//! Compiles the C part (sums in long double, `native/longdouble.c`) and the
//! node-to-node services.

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=native/longdouble.c");
    println!("cargo::rerun-if-changed=proto/migration.proto");
    println!("cargo::rerun-if-changed=proto/pubsub.proto");
    cc::Build::new()
        .file("native/longdouble.c")
        .warnings_into_errors(true)
        .compile("cairn_long_double");
    tonic_prost_build::configure()
        .bytes(".cairn.peer")
        .bytes(".cairn.pubsub")
        .compile_protos(&["proto/migration.proto", "proto/pubsub.proto"], &["proto"])
}
