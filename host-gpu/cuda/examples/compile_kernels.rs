//! Compiles the kernels ahead of time, for every target, and says how many registers they need:
//! `compile_kernels PTXAS [--check]`. With `--check` it writes nothing, but fails where what is
//! there differs, a kernel spills registers or needs many more of them than before. NVRTC and
//! ptxas of CUDA 13.0 make what is there; `make check-cuda` fetches them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use quern_cuda::source::{HEADER, OPTIONS, SOURCES, Source, Target, compile};
use sha2::{Digest, Sha256};

type Failure = Box<dyn std::error::Error>;

const TARGETS: [Target; 4] =
    [Target::Machine(8, 0), Target::Machine(8, 6), Target::Machine(9, 0), Target::Portable(9, 0)];

/// Registers more than before that pass.
const MORE_REGISTERS: u32 = 8;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let outcome = match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [ptxas] => run(Path::new(ptxas), false),
        [ptxas, "--check"] => run(Path::new(ptxas), true),
        _ => Err("usage: compile_kernels PTXAS [--check]".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compile_kernels: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(ptxas: &Path, check: bool) -> Result<(), Failure> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/images");
    let mut manifest = String::new();
    let mut registers = BTreeMap::new();
    let mut different = Vec::new();
    for source in SOURCES {
        writeln!(manifest, "{}  {}.cu", hash_of(source), source.name)?;
        for target in TARGETS {
            let image = compile(source, target)?;
            let name = format!("{}.{}", source.name, target.name());
            writeln!(manifest, "{}  {name}", hex(&Sha256::digest(&image)))?;
            let path = folder.join(format!("{name}.z"));
            if !check {
                write(&path, &image)?;
            } else if read(&path).ok().as_ref() != Some(&image) {
                different.push(name);
            }
        }
        for (major, minor) in [(8, 0), (8, 6), (9, 0)] {
            for (kernel, needs) in assemble(ptxas, source, (major, minor))? {
                registers.entry(kernel).or_insert_with(Vec::new).push(needs);
            }
        }
        println!("{}", source.name);
    }
    let table = table(&registers)?;
    let (manifest_path, table_path) = (folder.join("manifest"), folder.join("registers"));
    if !check {
        fs::write(manifest_path, manifest)?;
        return Ok(fs::write(table_path, table)?);
    }
    if fs::read_to_string(manifest_path).ok().as_ref() != Some(&manifest) {
        different.push("manifest".to_owned());
    }
    compare(&fs::read_to_string(table_path).unwrap_or_default(), &table)?;
    if different.is_empty() {
        return Ok(());
    }
    Err(format!("these differ from what the sources give; run `make cuda-kernels`: {different:?}")
        .into())
}

/// Everything that an image is made of.
fn hash_of(source: &Source) -> String {
    let mut hash = Sha256::new();
    for text in [HEADER.1, source.text, &OPTIONS.join(" ")] {
        hash.update(text);
        hash.update([0]);
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn write(path: &PathBuf, image: &[u8]) -> Result<(), Failure> {
    let mut encoder = ZlibEncoder::new(fs::File::create(path)?, Compression::best());
    encoder.write_all(image)?;
    encoder.finish()?;
    Ok(())
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Failure> {
    let mut image = Vec::new();
    ZlibDecoder::new(fs::File::open(path)?).read_to_end(&mut image)?;
    Ok(image)
}

/// The registers that each kernel of a source needs on an architecture; an error if one spills.
fn assemble(
    ptxas: &Path,
    source: &Source,
    (major, minor): (u32, u32),
) -> Result<Vec<(String, u32)>, Failure> {
    let mut ptx = compile(source, Target::Portable(major, minor))?;
    ptx.pop();
    let path =
        std::env::temp_dir().join(format!("quern-{}-{major}{minor}.ptx", std::process::id()));
    fs::write(&path, ptx)?;
    let architecture = format!("--gpu-name=sm_{major}{minor}");
    let output = Command::new(ptxas)
        .args([&architecture, "--verbose", "--output-file=/dev/null"])
        .arg(&path)
        .output()
        .map_err(|error| format!("{}: {error}", ptxas.display()))?;
    fs::remove_file(&path)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(format!("{}: {said}", source.name).into());
    }
    parse(&said)
}

/// What ptxas says of each kernel, in three lines: its name, its stack, its registers.
fn parse(said: &str) -> Result<Vec<(String, u32)>, Failure> {
    let (mut kernels, mut kernel) = (Vec::new(), None);
    for line in said.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            kernel = rest.split('\'').next().map(str::to_owned);
        } else if line.contains("spill stores") && !line.contains(" 0 bytes spill stores, 0 bytes")
        {
            return Err(format!("{} spills: {line}", kernel.unwrap_or_default()).into());
        } else if let Some((_, rest)) = line.split_once("Used ") {
            let registers = rest.split(' ').next().unwrap_or_default().parse()?;
            let kernel = kernel.take().ok_or("registers of no kernel")?;
            kernels.push((kernel, registers));
        }
    }
    Ok(kernels)
}

fn table(registers: &BTreeMap<String, Vec<u32>>) -> Result<String, Failure> {
    let mut table = "# Registers of a thread of each kernel on sm_80, sm_86 and sm_90, by ptxas; none spills.\n".to_owned();
    for (kernel, registers) in registers {
        let registers: Vec<_> = registers.iter().map(u32::to_string).collect();
        writeln!(table, "{kernel} {}", registers.join(" "))?;
    }
    Ok(table)
}

fn compare(before: &str, now: &str) -> Result<(), Failure> {
    let read = |text: &str| -> BTreeMap<String, Vec<u32>> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let words = lines.filter_map(|line| line.split_once(' '));
        let numbers = |numbers: &str| numbers.split(' ').filter_map(|n| n.parse().ok()).collect();
        words.map(|(kernel, rest)| (kernel.to_owned(), numbers(rest))).collect()
    };
    let (before, now) = (read(before), read(now));
    for (kernel, now) in &now {
        let before = before.get(kernel).ok_or_else(|| format!("{kernel} is not in the table"))?;
        let jumps = now.iter().zip(before).any(|(now, before)| *now > before + MORE_REGISTERS);
        if jumps {
            return Err(format!("{kernel} needs {now:?} registers, before {before:?}").into());
        }
    }
    match before.keys().find(|kernel| !now.contains_key(*kernel)) {
        Some(kernel) => Err(format!("{kernel} is in the table, but no kernel").into()),
        None => Ok(()),
    }
}
