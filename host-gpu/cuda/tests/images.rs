//! Holds the images of the kernels to their sources, and the table of registers to the images. No
//! compiler is needed: who changes a source runs `make cuda-kernels`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use flate2::read::ZlibDecoder;
use quern_cuda::source::{
    CompileError, HEADER, OPTIONS, SOURCES, Source, Target, compile, has_compiler,
};
use sha2::{Digest, Sha256};

const TARGETS: [&str; 4] = ["sm_80", "sm_86", "sm_90", "compute_90"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/images")
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn image(source: &Source, target: &str) -> Vec<u8> {
    let file = fs::File::open(folder().join(format!("{}.{target}.z", source.name)));
    let mut image = Vec::new();
    ZlibDecoder::new(file.expect("an image")).read_to_end(&mut image).expect("it is whole");
    image
}

/// The names of kernels that machine code has a section for.
fn sections(code: &[u8]) -> BTreeSet<String> {
    const PREFIX: &[u8] = b"\0.text.";
    let found = code.windows(PREFIX.len()).enumerate().filter(|(_, bytes)| *bytes == PREFIX);
    let name = |at: usize| code[at + PREFIX.len()..].split(|byte| *byte == 0).next();
    let names = found.filter_map(|(at, _)| name(at));
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// The names of kernels that PTX has.
fn kernels(ptx: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(ptx);
    let entries = text.split(".entry ").skip(1);
    entries.filter_map(|rest| rest.split('(').next()).map(|name| name.trim().to_owned()).collect()
}

#[test]
fn images_are_those_of_the_sources() {
    let manifest = fs::read_to_string(folder().join("manifest")).expect("a manifest");
    let noted: BTreeMap<_, _> =
        manifest.lines().filter_map(|line| line.split_once("  ")).map(|(h, n)| (n, h)).collect();
    for source in SOURCES {
        let mut hash = Sha256::new();
        for text in [HEADER.1, source.text, &OPTIONS.join(" ")] {
            hash.update(text);
            hash.update([0]);
        }
        let name = format!("{}.cu", source.name);
        let stale = "the source was changed: run `make cuda-kernels`";
        assert_eq!(noted.get(name.as_str()), Some(&&*hex(hash)), "{name}: {stale}");
        for target in TARGETS {
            let name = format!("{}.{target}", source.name);
            let mut hash = Sha256::new();
            hash.update(image(source, target));
            assert_eq!(noted.get(name.as_str()), Some(&&*hex(hash)), "{name}");
        }
    }
    assert_eq!(noted.len(), SOURCES.len() * (1 + TARGETS.len()));
}

#[test]
fn every_image_has_all_kernels_and_the_table_knows_their_registers() {
    let table = fs::read_to_string(folder().join("registers")).expect("a table");
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    let known: BTreeSet<_> =
        lines.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    let mut all = BTreeSet::new();
    for source in SOURCES {
        let kernels = kernels(&image(source, "compute_90"));
        for target in &TARGETS[..3] {
            assert_eq!(sections(&image(source, target)), kernels, "{}.{target}", source.name);
        }
        all.extend(kernels);
    }
    assert_eq!(all, known);
}

#[test]
fn what_can_not_be_compiled_is_told_with_what_the_compiler_says() {
    let broken = Source { name: "broken", text: "int x = ;" };
    let error = compile(&broken, Target::Machine(9, 0)).expect_err("no CUDA C");
    match has_compiler() {
        false => assert_eq!(error, CompileError::NoCompiler),
        true => assert!(error.to_string().contains("broken.cu(1): error"), "{error}"),
    }
}
