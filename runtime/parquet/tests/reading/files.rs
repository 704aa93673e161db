//! Files for the tests: written by the parser's own writer, or byte by byte where that refuses.

use std::sync::Arc;

use parquet::{
    basic::Compression,
    column::writer::ColumnWriter,
    data_type::{ByteArray, FixedLenByteArray, Int96},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};

/// The values of a column that are there.
#[derive(Clone)]
pub(crate) enum Values {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Int96(Vec<Int96>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Bytes(Vec<Vec<u8>>),
    Fixed(Vec<Vec<u8>>),
}

/// A column of a row group.
#[derive(Clone)]
pub(crate) struct Chunk {
    pub(crate) values: Values,
    pub(crate) definitions: Vec<i16>,
    pub(crate) repetitions: Vec<i16>,
}

/// A column without levels.
pub(crate) fn required(values: Values) -> Chunk {
    Chunk { values, definitions: vec![], repetitions: vec![] }
}

/// A column with a definition level for each row.
pub(crate) fn optional(values: Values, definitions: &[i16]) -> Chunk {
    Chunk { values, definitions: definitions.to_vec(), repetitions: vec![] }
}

/// A file with these fields and row groups.
pub(crate) fn file(fields: &str, compression: Compression, groups: &[Vec<Chunk>]) -> Vec<u8> {
    let schema = parse_message_type(&format!("message m {{ {fields} }}")).expect("a schema");
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))
        .expect("a writer");
    for columns in groups {
        let mut group = writer.next_row_group().expect("a row group");
        for chunk in columns {
            let mut column = group.next_column().expect("a column").expect("one more");
            write(column.untyped(), chunk);
            column.close().expect("written");
        }
        group.close().expect("written");
    }
    writer.into_inner().expect("written")
}

fn write(column: &mut ColumnWriter<'_>, chunk: &Chunk) {
    let levels = |levels: &'_ [i16]| (!levels.is_empty()).then(|| levels.to_vec());
    let (definitions, repetitions) = (levels(&chunk.definitions), levels(&chunk.repetitions));
    let (definitions, repetitions) = (definitions.as_deref(), repetitions.as_deref());
    macro_rules! batch {
        ($writer:expr, $values:expr) => {
            $writer.write_batch($values, definitions, repetitions)
        };
    }
    let written = match (column, &chunk.values) {
        (ColumnWriter::BoolColumnWriter(writer), Values::Bool(values)) => batch!(writer, values),
        (ColumnWriter::Int32ColumnWriter(writer), Values::Int32(values)) => batch!(writer, values),
        (ColumnWriter::Int64ColumnWriter(writer), Values::Int64(values)) => batch!(writer, values),
        (ColumnWriter::Int96ColumnWriter(writer), Values::Int96(values)) => batch!(writer, values),
        (ColumnWriter::FloatColumnWriter(writer), Values::Float(values)) => batch!(writer, values),
        (ColumnWriter::DoubleColumnWriter(writer), Values::Double(values)) => {
            batch!(writer, values)
        }
        (ColumnWriter::ByteArrayColumnWriter(writer), Values::Bytes(values)) => {
            let values: Vec<_> = values.iter().cloned().map(ByteArray::from).collect();
            batch!(writer, &values)
        }
        (ColumnWriter::FixedLenByteArrayColumnWriter(writer), Values::Fixed(values)) => {
            let values: Vec<_> = values.iter().cloned().map(FixedLenByteArray::from).collect();
            batch!(writer, &values)
        }
        _ => panic!("values of another type than the column"),
    };
    written.expect("written");
}

/// A file of two row groups: three rows and two, with a number, a text and a list.
pub(crate) fn small(compression: Compression) -> Vec<u8> {
    let fields = "required int64 id; optional binary name (UTF8); \
                  required group x (LIST) { repeated group list { required float element; } }";
    let list = |values: &[f32]| Chunk {
        values: Values::Float(values.to_vec()),
        definitions: vec![1; values.len()],
        repetitions: (0..values.len()).map(|place| (place % 2) as i16).collect(),
    };
    let text = |text: &str| text.as_bytes().to_vec();
    let groups = [
        vec![
            required(Values::Int64(vec![1, 2, 3])),
            optional(Values::Bytes(vec![text("a"), text("c")]), &[1, 0, 1]),
            list(&[0.0, 0.5, 1.0, 1.5, 2.0, 2.5]),
        ],
        vec![
            required(Values::Int64(vec![4, 5])),
            optional(Values::Bytes(vec![text("d"), text("e")]), &[1, 1]),
            list(&[3.0, 3.5, 4.0, 4.5]),
        ],
    ];
    file(fields, compression, &groups)
}

/// A file with nothing but this description of itself, in the compact protocol of Thrift.
pub(crate) fn footer_only(footer: &[u8]) -> Vec<u8> {
    let length = u32::try_from(footer.len()).expect("short").to_le_bytes();
    [&b"PAR1"[..], footer, &length, b"PAR1"].concat()
}

/// A description with this list of elements of a schema, and no rows.
pub(crate) fn footer(elements: u64, schema: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x15, 2, 0x19, 0xfc];
    varint(elements, &mut bytes);
    bytes.extend_from_slice(schema);
    bytes.extend_from_slice(&[0x16, 0, 0x19, 0x0c, 0]);
    bytes
}

/// A group of the schema that claims so many children.
pub(crate) fn group(children: u64) -> Vec<u8> {
    let mut bytes = vec![0x35, 0, 0x18, 1, b'g', 0x15];
    varint(children << 1, &mut bytes);
    bytes.push(0);
    bytes
}

/// A number of the schema.
pub(crate) fn leaf() -> Vec<u8> {
    vec![0x15, 2, 0x25, 0, 0x18, 1, b'x', 0]
}

fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
