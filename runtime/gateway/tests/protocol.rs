//! Holds the messages of gRPC against the file that describes them: they are generated from it by
//! hand, so that no build needs a compiler of it. `QUERN_WRITE_PROTOCOL=1` writes them anew.

use std::{fs, path::Path};

const HEAD: &str = "//! Messages of the Open Inference Protocol over gRPC, generated from \
                    proto/inference.proto.\n// @generated\n\n";

#[test]
fn the_messages_are_those_of_the_description() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = protox::compile([folder.join("proto/inference.proto")], [folder.join("proto")]);
    let out = tempfile::tempdir().expect("a folder");
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(out.path())
        .compile_fds(files.expect("is valid"))
        .expect("generates");
    let generated = fs::read_to_string(out.path().join("inference.rs")).expect("is there");
    // Comments would be the description's own.
    let code = |line: &&str| !line.trim_start().starts_with("//");
    let lines = generated.lines().filter(code).flat_map(|line| [line, "\n"]);
    let generated = String::from(HEAD) + &lines.collect::<String>();

    let path = folder.join("src/grpc/protocol.rs");
    if std::env::var_os("QUERN_WRITE_PROTOCOL").is_some() {
        fs::write(&path, &generated).expect("writes");
    }
    let kept = fs::read_to_string(&path).expect("is there");
    assert!(kept == generated, "run this test with QUERN_WRITE_PROTOCOL=1, and commit the outcome");
}
