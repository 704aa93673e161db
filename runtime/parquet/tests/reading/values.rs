//! Values come as they were written, whatever their types, lists, pages and compression are, from
//! any row on.

use parquet::{
    basic::{Compression, GzipLevel, ZstdLevel},
    data_type::Int96,
};
use quern_parquet::ReaderConfig;

use crate::{
    files::{Chunk, Values, file, optional, required, small},
    process::{config, open, rows, text},
};

const SMALL: [&str; 5] = [
    "1 \"a\" [0.0f 0.5f]",
    "2 null [1.0f 1.5f]",
    "3 \"c\" [2.0f 2.5f]",
    "4 \"d\" [3.0f 3.5f]",
    "5 \"e\" [4.0f 4.5f]",
];

#[test]
fn rows_are_given_from_any_on_whatever_their_compression() {
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        let file = small(compression);
        assert_eq!(rows(&file, config(), 0).expect("reads"), SMALL, "{compression}");
    }
    let file = small(Compression::SNAPPY);
    for skip in 1..=7 {
        let found = rows(&file, config(), skip).expect("reads");
        assert_eq!(found, SMALL[SMALL.len().min(skip as usize)..], "{skip}");
    }
}

#[test]
fn values_are_what_their_types_say() {
    let mut noon = Int96::new();
    noon.set_data(1, 0, 2_440_589);
    let bytes = |bytes: &[u8]| vec![bytes.to_vec()];
    let columns = [
        ("boolean", Values::Bool(vec![true]), "true"),
        ("int32", Values::Int32(vec![-7]), "-7"),
        ("int32 @ (INTEGER(8,false))", Values::Int32(vec![255]), "255"),
        ("int64", Values::Int64(vec![i64::MIN]), "-9223372036854775808"),
        ("int64 @ (INTEGER(64,false))", Values::Int64(vec![-1]), "18446744073709551615u"),
        ("float", Values::Float(vec![0.1]), "0.1f"),
        ("double", Values::Double(vec![f64::NEG_INFINITY]), "-inf"),
        ("int32 @ (DATE)", Values::Int32(vec![20_778]), "\"2026-11-21\""),
        (
            "int64 @ (TIMESTAMP(MILLIS,true))",
            Values::Int64(vec![1]),
            "\"1970-01-01T00:00:00.001Z\"",
        ),
        (
            "int64 @ (TIMESTAMP(NANOS,false))",
            Values::Int64(vec![1]),
            "\"1970-01-01T00:00:00.000000001\"",
        ),
        ("int64 @ (TIME(MICROS,true))", Values::Int64(vec![1]), "\"00:00:00.000001\""),
        ("int96", Values::Int96(vec![noon]), "\"1970-01-02T00:00:00.000000001Z\""),
        ("int32 @ (DECIMAL(9,2))", Values::Int32(vec![-5]), "-0.05"),
        ("fixed_len_byte_array(3) @ (DECIMAL(6,1))", Values::Fixed(bytes(&[0, 1, 0])), "25.6"),
        ("binary @ (UTF8)", Values::Bytes(bytes("é".as_bytes())), "\"é\""),
        ("binary @ (JSON)", Values::Bytes(bytes(b"{}")), "\"{}\""),
        ("binary", Values::Bytes(bytes(&[0, 255])), "[0, 255]"),
        (
            "fixed_len_byte_array(16) @ (UUID)",
            Values::Fixed(bytes(&[0x11; 16])),
            "\"11111111-1111-1111-1111-111111111111\"",
        ),
        ("fixed_len_byte_array(2) @ (FLOAT16)", Values::Fixed(bytes(&[0, 0x3c])), "1.0f"),
    ];
    for (kind, values, expected) in columns {
        let kind =
            kind.split_once(" @").map_or((kind, ""), |(kind, annotation)| (kind, annotation));
        let field = |repetition: &str| format!("{repetition} {} x{};", kind.0, kind.1);
        let there = [vec![required(values.clone())]];
        let whole = file(&field("required"), Compression::SNAPPY, &there);
        assert_eq!(rows(&whole, config(), 0).expect("reads"), [expected], "{kind:?}");
        let holes = [vec![optional(values, &[0, 1, 0])]];
        let holes = file(&field("optional"), Compression::SNAPPY, &holes);
        let found = rows(&holes, config(), 0).expect("reads");
        assert_eq!(found, ["null", expected, "null"], "{kind:?}");
    }
}

#[test]
fn lists_are_nested_empty_or_null_as_they_were() {
    let nested = "optional group x (LIST) { repeated group list { optional group element (LIST) { \
                  repeated group list { optional int32 element; } } } }";
    let chunk = Chunk {
        values: Values::Int32(vec![1, 2, 3, 4]),
        definitions: vec![5, 5, 4, 3, 2, 1, 0, 5, 5],
        repetitions: vec![0, 2, 2, 1, 1, 0, 0, 0, 1],
    };
    let found = rows(&file(nested, Compression::SNAPPY, &[vec![chunk]]), config(), 0);
    assert_eq!(found.expect("reads"), ["[[1 2 null] [] null]", "[]", "null", "[[3] [4]]"]);
    let bare = "repeated int32 x;";
    let chunk = Chunk {
        values: Values::Int32(vec![1, 2]),
        definitions: vec![1, 1, 0],
        repetitions: vec![0, 1, 0],
    };
    let found = rows(&file(bare, Compression::SNAPPY, &[vec![chunk]]), config(), 0);
    assert_eq!(found.expect("reads"), ["[1 2]", "[]"]);
}

#[test]
fn many_rows_come_whole_and_in_order() {
    let count = 30_000;
    let lists = Chunk {
        values: Values::Double((0..count * 3).map(f64::from).collect()),
        definitions: vec![1; count as usize * 3],
        repetitions: (0..count * 3).map(|place| i16::from(place % 3 != 0)).collect(),
    };
    let fields = "required int32 id; \
                  required group x (LIST) { repeated group list { required double element; } }";
    let columns = vec![required(Values::Int32((0..count).collect())), lists];
    let file = file(fields, Compression::ZSTD(ZstdLevel::default()), &[columns]);
    for skip in [0, 12_345] {
        let found = rows(&file, config(), skip as u64).expect("reads");
        assert_eq!(found.len() as i32, count - skip);
        for (row, text) in (skip..).zip(found) {
            let x = [0, 1, 2].map(|place| f64::from(row * 3 + place));
            assert_eq!(text, format!("{row} [{:?} {:?} {:?}]", x[0], x[1], x[2]));
        }
    }
}

#[test]
fn many_rows_are_passed_over_in_steps() {
    let count = 200_000;
    let columns = vec![
        required(Values::Int32((0..count).collect())),
        required(Values::Int64((0..count).map(i64::from).collect())),
    ];
    let file = file("required int32 a; required int64 b;", Compression::SNAPPY, &[columns]);
    for skip in [65_535, 65_536, 65_537, 199_999, 200_000] {
        let found = rows(&file, config(), skip as u64).expect("reads");
        assert_eq!(found.len() as i32, count - skip);
        assert_eq!(found.first(), (skip < count).then(|| format!("{skip} {skip}")).as_ref());
    }
}

#[test]
fn columns_come_as_they_were_asked_for() {
    let mut reader = open(&small(Compression::SNAPPY), config()).expect("opens");
    let names: Vec<_> = reader.columns().iter().map(|column| column.name.clone()).collect();
    assert_eq!((names, reader.rows()), (vec!["id".into(), "name".into(), "x".into()], 5));
    reader.ask(vec![2, 0], 4).expect("asks");
    let row = format!("{:?}", reader.next_row().expect("reads").expect("a row"));
    assert!(row.starts_with("Cells"), "{row}");
    assert!(reader.next_row().expect("reads").is_none());
}

#[test]
fn a_row_that_is_too_long_is_passed_over() {
    let texts = Values::Bytes(vec![b"short".to_vec(), vec![b'x'; 1_000], b"short".to_vec()]);
    let file = file("required binary x (UTF8);", Compression::SNAPPY, &[vec![required(texts)]]);
    let config = ReaderConfig { row_bytes: 100, ..config() };
    assert_eq!(rows(&file, config, 0).expect("reads"), ["\"short\"", "too long", "\"short\""]);
}

#[test]
fn a_file_of_another_writer_is_read() {
    let file = include_bytes!("of_pyarrow.parquet");
    let mut reader = open(file, config()).expect("opens");
    let refused: Vec<_> =
        reader.columns().iter().filter(|column| column.refusal.is_some()).collect();
    let [column] = refused[..] else { panic!("{refused:?}") };
    assert_eq!(column.name, "struct");
    let readable = (0..reader.columns().len() as u32 - 1).collect();
    reader.ask(readable, 0).expect("asks");
    let mut found = Vec::new();
    while let Some(row) = reader.next_row().expect("reads") {
        found.push(text(row));
    }
    let expected = [
        "1 \"a\" 0.5f [[1.0f 2.0f] [3.0f]] [1 2] \"2026-11-21T12:30:00.25Z\" \
         \"2026-11-21T12:30:00.25\" \"2026-11-21\" \"12:30:00.25\" 12.50 [0, 255] true null",
        "2 null null [] [3 4] null null null null -0.05 [] false null",
        "null \"é\" -2.0f null [5 6] null null null null null null null null",
    ];
    assert_eq!(found, expected);
}
