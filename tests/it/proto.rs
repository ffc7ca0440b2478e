//! The code that `src/grpc/pb` holds is what its proto files say. Nobody needs a compiler of proto files to build: the
//! code lies beside them, and this writes it anew with `UPDATE_PROTO=1 cargo test --test it proto`.

use std::path::Path;

use prost::Message as _;
use tempfile::TempDir;

const FILES: [&str; 4] = [
    "inference.proto",
    "health.proto",
    "reflection_v1.proto",
    "reflection_v1alpha.proto",
];

/// The generated files that are used, and what they are called in the source. Both versions of reflection have the
/// same messages: one serves for both.
const USED: [(&str, &str); 3] = [
    ("inference.rs", "inference.rs"),
    ("grpc.health.v1.rs", "health.rs"),
    ("grpc.reflection.v1.rs", "reflection.rs"),
];

#[test]
fn the_generated_code_is_that_of_the_proto_files() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/grpc");
    let mut compiler = protox::Compiler::new([source.join("proto")]).unwrap();
    compiler.include_imports(true).include_source_info(false);
    let set = compiler.open_files(FILES).unwrap().file_descriptor_set();
    let out = TempDir::new().unwrap();
    let descriptors = set.encode_to_vec();
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(out.path())
        .compile_fds(set)
        .unwrap();
    let same = |name: &str, new: &[u8]| {
        let path = source.join("pb").join(name);
        if std::env::var_os("UPDATE_PROTO").is_some() {
            std::fs::write(&path, new).unwrap();
        }
        let old = std::fs::read(&path).unwrap_or_default();
        assert!(
            old == new,
            "{name} is not that of the proto files: see the head of this test"
        );
    };
    same("descriptors.bin", &descriptors);
    for (generated, name) in USED {
        same(name, &std::fs::read(out.path().join(generated)).unwrap());
    }
}
