//! Files of Parquet: the same results as the same rows have in another format, and a server that
//! nothing in such a file can harm.

use std::sync::Arc;

use parquet::{
    column::writer::ColumnWriter,
    data_type::ByteArray,
    file::{
        properties::WriterProperties,
        reader::{FileReader, SerializedFileReader},
        writer::SerializedFileWriter,
    },
    schema::parser::parse_message_type,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{NDJSON, begin, create, ended, lines, score, server_with_adding};
use crate::{
    cli,
    support::{Server, until},
};

const PARQUET: &str = "application/vnd.apache.parquet";
const FIELDS: &str = "required binary id (UTF8); \
    optional group x (LIST) { repeated group list { optional float element; } }";

/// A row: its name, and what it has in `x`.
type Row = (String, Option<Vec<Option<f32>>>);

fn row(id: &str, x: &[f32]) -> Row {
    (id.into(), Some(x.iter().copied().map(Some).collect()))
}

/// Rows `0, 0`, `1, 1`, …, `6, 6`, `7, 0`, ….
fn counted(rows: u32) -> Vec<Row> {
    (0..rows).map(|number| row("", &[number as f32, (number % 7) as f32])).collect()
}

/// A file of these rows, in groups of so many.
fn written(rows: &[Row], group_rows: usize) -> Vec<u8> {
    let schema = parse_message_type(&format!("message rows {{ {FIELDS} }}")).expect("a schema");
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer =
        SerializedFileWriter::new(Vec::new(), Arc::new(schema), properties).expect("a writer");
    for rows in rows.chunks(group_rows) {
        let mut group = writer.next_row_group().expect("a row group");
        let mut column = group.next_column().expect("a column").expect("id");
        let ColumnWriter::ByteArrayColumnWriter(ids) = column.untyped() else {
            panic!("not a column of bytes")
        };
        let values: Vec<_> = rows.iter().map(|(id, _)| ByteArray::from(id.as_str())).collect();
        ids.write_batch(&values, None, None).expect("written");
        column.close().expect("written");
        let (mut values, mut definitions, mut repetitions) = (vec![], vec![], vec![]);
        for (_, x) in rows {
            let elements = x.as_deref().unwrap_or_default();
            if elements.is_empty() {
                definitions.push(i16::from(x.is_some()));
                repetitions.push(0);
            }
            for (place, element) in elements.iter().enumerate() {
                values.extend(*element);
                definitions.push(if element.is_some() { 3 } else { 2 });
                repetitions.push(i16::from(place > 0));
            }
        }
        let mut column = group.next_column().expect("a column").expect("x");
        let ColumnWriter::FloatColumnWriter(floats) = column.untyped() else {
            panic!("not a column of numbers")
        };
        floats.write_batch(&values, Some(&definitions), Some(&repetitions)).expect("written");
        column.close().expect("written");
        group.close().expect("written");
    }
    writer.into_inner().expect("written")
}

/// The same rows as JSON lines.
fn as_ndjson(rows: &[Row]) -> String {
    rows.iter().map(|(id, x)| json!({"id": id, "x": x}).to_string() + "\n").collect()
}

#[tokio::test]
async fn rows_have_the_results_that_they_have_as_json_lines() {
    let server = server_with_adding().await;
    let rows = [
        row("a", &[1.0, 2.0]),
        row("\"b\", é", &[-0.5, 1e30]),
        ("none".into(), None),
        row("short", &[1.0]),
        row("empty", &[]),
        ("hole".into(), Some(vec![Some(1.0), None])),
        row("z", &[0.1, 16_777_216.0]),
    ];
    for format in ["csv", "ndjson"] {
        let asked = json!({
            "model": "add", "keep": ["id"], "on_error": "record", "output_format": format
        });
        let (_, expected) = score(&server, asked.clone(), NDJSON, as_ndjson(&rows)).await;
        let (batch, results) = score(&server, asked, PARQUET, written(&rows, 3)).await;
        assert_eq!(batch["rows"], json!({"done": 7, "failed": 4}), "{results}");
        // In another format, rows have lines.
        let mut without_lines = expected;
        for row in 1..=rows.len() {
            without_lines =
                without_lines.replace(&format!("row {row} (line {row})"), &format!("row {row}"));
        }
        assert_eq!(results, without_lines);
        assert_eq!(batch["input"]["done"], batch["input"]["bytes"]);
    }
    let (batch, results) =
        score(&server, json!({"model": "add"}), PARQUET, written(&rows[..1], 1)).await;
    assert_eq!((&batch["format"], &batch["output_format"]), (&json!("parquet"), &json!("ndjson")));
    assert_eq!(lines(&results), [json!({"row": 1, "y": [11.0, 22.0]})]);
}

#[tokio::test]
async fn what_json_has_no_form_for_is_scored_and_written_as_csv() {
    let server = server_with_adding().await;
    let rows = [row("a", &[f32::NAN, f32::NEG_INFINITY])];
    let asked = json!({"model": "add", "output_format": "csv"});
    let (_, results) = score(&server, asked, PARQUET, written(&rows, 1)).await;
    assert_eq!(results, "row,y.0,y.1,error\r\n1,NaN,-inf,\r\n");
}

#[tokio::test]
async fn what_can_not_be_scored_is_refused_with_its_reason() {
    let server = server_with_adding().await;
    let good = written(&[row("a", &[1.0, 2.0])], 1);
    let deep = {
        // A schema of groups in groups, too deep for any stack, as Thrift's compact protocol has it.
        let mut footer = vec![0x15, 2, 0x19, 0xfc, 0xc0, 0x84, 0x3d];
        (0..1_000_000).for_each(|_| footer.extend([0x35, 0, 0x18, 1, b'g', 0x15, 2, 0]));
        let length = u32::try_from(footer.len()).expect("short").to_le_bytes();
        [&b"PAR1"[..], &footer, &length, b"PAR1"].concat()
    };
    let wide = {
        let mut footer = vec![0x15, 2, 0x19, 0xfc, 0x82, 0x80, 0x04];
        footer.extend([0x35, 0, 0x18, 1, b'g', 0x15, 0x82, 0x80, 0x08, 0]);
        (0..65_537).for_each(|_| footer.extend([0x15, 2, 0x25, 0, 0x18, 1, b'x', 0]));
        footer.extend([0x16, 0, 0x19, 0x0c, 0]);
        let length = u32::try_from(footer.len()).expect("short").to_le_bytes();
        [&b"PAR1"[..], &footer, &length, b"PAR1"].concat()
    };
    let cut = [&good[..good.len() / 2], b"PAR1"].concat();
    for (asked, file, part) in [
        (json!({}), &b"x.0,x.1\n1,2\n"[..], "the file is not Parquet"),
        (json!({"columns": {"x": "z"}}), &good, "column \"z\" is missing"),
        (json!({"keep": ["z"]}), &good, "column \"z\" is missing"),
        (json!({"output_format": "parquet"}), &good, "unknown variant `parquet`"),
        (json!({}), &cut, "the file can't be read before its first row"),
        (json!({}), &wide, "it has 65537 columns, and no more than 65536 are read"),
        (json!({}), &deep, "the process that reads the file ended before its first row"),
    ] {
        let mut asked = asked;
        asked["model"] = "add".into();
        let refused = create(&server, &asked, PARQUET, file).await;
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(
            refused.text().contains(json!(part).to_string().trim_matches('"')),
            "{part}: {}",
            refused.text()
        );
    }
    assert_eq!(server.get("/v1/batches").await.json(), json!({"batches": []}));
    let (batch, _) = score(&server, json!({"model": "add"}), PARQUET, good).await;
    assert_eq!(batch["state"], "completed");
}

#[tokio::test]
async fn a_file_that_breaks_in_the_middle_keeps_the_results_before() {
    let server = server_with_adding().await;
    let rows = counted(2_000);
    let mut file = written(&rows, 1_000);
    let begin = {
        let reader = SerializedFileReader::new(bytes::Bytes::from(file.clone())).expect("opens");
        reader.metadata().row_group(1).column(1).byte_range().0 as usize
    };
    file[begin..begin + 16].fill(0xff);
    let (batch, results) = score(&server, json!({"model": "add"}), PARQUET, file).await;
    assert_eq!(batch["state"], "failed", "{batch}");
    let detail = batch["error"]["detail"].as_str().expect("a reason");
    let expected = "the file can't be read after row 1000: column \"x\": ";
    assert!(detail.starts_with(expected), "{detail}");
    assert_eq!(batch["rows"], json!({"done": 1_000, "failed": 0}));
    assert_eq!(lines(&results).len(), 1_000);
    let (batch, _) = score(&server, json!({"model": "add"}), PARQUET, written(&rows, 500)).await;
    assert_eq!(batch["rows"], json!({"done": 2_000, "failed": 0}));
}

#[tokio::test]
async fn a_batch_goes_on_where_it_was_and_ends_with_its_removal() {
    let rows = 60_000;
    let mut server = server_with_adding().await;
    let file = written(&counted(rows), 7_000);
    let path = begin(&server, json!({"model": "add"}), PARQUET, file.clone()).await;
    let mut done = 0;
    for is_killed in [true, false] {
        until("more rows are done", async || {
            let batch = server.get(&path).await.json();
            let now = batch["rows"]["done"].as_u64().expect("a number");
            (now > done || batch["state"] == "completed").then(|| done = now).is_some()
        })
        .await;
        let data = if is_killed { server.kill() } else { server.stop() };
        server = Server::start_on(data, &[]);
    }
    let batch = ended(&server, &path).await;
    assert_eq!(batch["rows"], json!({"done": rows, "failed": 0}), "{batch}");
    let results = server.get(&format!("{path}/results")).await.text();
    for (number, line) in results.lines().enumerate() {
        let found: Value = serde_json::from_str(line).expect("JSON");
        let y = [number as f64 + 10.0, (number % 7) as f64 + 20.0];
        assert_eq!(found, json!({"row": number + 1, "y": y}));
    }
    let removed = begin(&server, json!({"model": "add"}), PARQUET, file).await;
    assert_eq!(server.delete(&removed).await.status, 204);
    server.get(&removed).await.assert_error(404, "not-found", "is not known");
}

#[tokio::test]
async fn the_command_line_tells_parquet_by_its_name_or_its_beginning() {
    let server = server_with_adding().await;
    let folder = TempDir::new().expect("a folder");
    let file = written(&[row("a", &[1.0, 2.0])], 1);
    for name in ["rows.parquet", "rows"] {
        std::fs::write(folder.path().join(name), &file).expect("written");
        let printed = cli::text(server.url(), folder.path(), &["batch", "run", "add", name]);
        assert_eq!(lines(&printed), [json!({"row": 1, "y": [11.0, 22.0]})]);
    }
    let path = folder.path().join("other.parquet");
    std::fs::write(&path, "x.0,x.1\n1,2\n").expect("written");
    let path = path.to_str().expect("a path in UTF-8");
    cli::failure(server.url(), &["batch", "run", "add", path], 1, &["the file is not Parquet"]);
    let record = ["batch", "run", "add", path, "--output-format", "parquet"];
    cli::failure(server.url(), &record, 2, &["choose csv or ndjson"]);
}
