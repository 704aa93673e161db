//! Files that are made to do harm, or damaged: each ends in an error, and that in the process.

use parquet::basic::{Compression, ZstdLevel};
use quern_parquet::{ReadError, ReaderConfig};

use crate::{
    files::{Values, file, footer, footer_only, group, leaf, required, small},
    process::{config, open, rows},
};

/// Why these bytes can't be read.
fn refused(bytes: &[u8], config: ReaderConfig) -> ReadError {
    rows(bytes, config, 0).expect_err("can't be read")
}

#[test]
fn what_is_not_parquet_takes_no_process() {
    let nothing = ReaderConfig { program: "/nonexistent".into(), ..config() };
    for bytes in [&b""[..], b"PAR", b"PAR1", b"a,b\n1,2\n", b"PAR1 and no end"] {
        let error = refused(bytes, nothing.clone());
        let is_expected = match bytes {
            // One mark is both ends; what is between can't be read.
            b"PAR1" => matches!(error, ReadError::Start(_)),
            _ => matches!(error, ReadError::NotParquet),
        };
        assert!(is_expected, "{bytes:?}: {error}");
    }
    let error = refused(b"PAR1", config()).to_string();
    assert!(error.starts_with("the file can't be read before its first row: "), "{error}");
}

#[test]
fn a_schema_that_is_nested_without_end_costs_the_process() {
    for depth in [1_000, 300_000] {
        let mut schema = group(1);
        (0..depth).for_each(|_| schema.extend_from_slice(&group(1)));
        schema.extend_from_slice(&leaf());
        let file = footer_only(&footer(depth + 2, &schema));
        match open(&file, config()) {
            // Deep, but not too deep for the stack: it is a struct among structs.
            Ok(reader) => {
                let refusal = reader.columns()[0].refusal.as_deref();
                assert_eq!((depth, refusal), (1_000, Some("is a struct, which is not read")));
            }
            Err(ReadError::Ended { reason, .. }) => {
                assert!(reason.contains("overflowed its stack"), "{reason}");
            }
            Err(other) => panic!("{depth}: {other}"),
        }
    }
}

#[test]
fn counts_that_a_file_claims_cost_the_process_at_most() {
    let claims = |bytes: Vec<u8>| {
        let error = refused(&footer_only(&bytes), config());
        let is_expected = matches!(error, ReadError::Broken { .. } | ReadError::Ended { .. });
        assert!(is_expected, "{error}");
    };
    claims(footer(2, &[group((1 << 31) - 1), leaf()].concat()));
    claims(footer((1 << 31) - 1, &group(1)));
    claims(footer(1 << 40, &group(1)));
    claims(footer(2, &[group(u64::MAX >> 1), leaf()].concat()));
}

#[test]
fn a_file_has_no_more_columns_than_are_read() {
    let of = |columns: u64| {
        footer_only(&footer(columns + 1, &{
            let leaves = (0..columns).flat_map(|_| leaf());
            group(columns).into_iter().chain(leaves).collect::<Vec<_>>()
        }))
    };
    let most = open(&of(65_536), config()).expect("opens");
    assert_eq!(most.columns().len(), 65_536);
    // Also where they are one column, a struct of them.
    let nested = {
        let leaves = (0..65_537).flat_map(|_| leaf());
        let schema = group(1).into_iter().chain(group(65_537)).chain(leaves);
        footer_only(&footer(65_539, &schema.collect::<Vec<_>>()))
    };
    for file in [of(65_537), nested] {
        let ReadError::Broken { reason, .. } = refused(&file, config()) else { panic!("{file:?}") };
        assert_eq!(reason, "it has 65537 columns, and no more than 65536 are read");
    }
}

#[test]
fn what_unpacks_to_more_than_there_may_be_costs_the_process() {
    let zeros = Values::Bytes(vec![vec![0; 128 << 20]]);
    let bomb = file(
        "required binary x;",
        Compression::ZSTD(ZstdLevel::default()),
        &[vec![required(zeros)]],
    );
    assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
    let error = refused(&bomb, ReaderConfig { memory_bytes: 64 << 20, ..config() });
    let ReadError::Ended { reason, .. } = &error else { panic!("{error}") };
    assert!(reason.contains("memory allocation of"), "{error}");
    assert!(reason.ends_with("it may have 64.0 MiB of memory"), "{error}");
}

/// How often a damage is tried, unless tests may take long.
fn tries(usual: usize) -> usize {
    if std::env::var_os("QUERN_LONG_TESTS").is_some() { usual * 100 } else { usual }
}

#[test]
fn whatever_is_damaged_gives_rows_or_an_error() {
    let mut random = fastrand::Rng::new();
    println!("seed {}", random.get_seed());
    let whole = small(Compression::SNAPPY);
    for _ in 0..tries(60) {
        let mut damaged = whole.clone();
        // The marks stay, or nothing would be looked at.
        for _ in 0..random.usize(1..4) {
            let place = random.usize(4..damaged.len() - 4);
            damaged[place] ^= 1 << random.u32(0..8);
        }
        expect_rows_or_error(&damaged);
    }
}

#[test]
fn whatever_is_missing_is_an_error() {
    let whole = small(Compression::SNAPPY);
    let mut random = fastrand::Rng::new();
    println!("seed {}", random.get_seed());
    for _ in 0..tries(15) {
        let (end, cut) = (random.usize(4..whole.len() - 4), random.usize(4..whole.len() - 8));
        // The end is gone, or something in the middle.
        expect_rows_or_error(&[&whole[..end], b"PAR1"].concat());
        let after = random.usize(cut + 1..whole.len() - 4);
        expect_rows_or_error(&[&whole[..cut], &whole[after..]].concat());
    }
}

fn expect_rows_or_error(bytes: &[u8]) {
    match rows(bytes, config(), 0) {
        Ok(_) | Err(ReadError::Broken { .. } | ReadError::Ended { .. }) => {}
        Err(other) => panic!("{other}\n{bytes:?}"),
    }
}
