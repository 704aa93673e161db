//! Writes the results of a batch: whole rows, in order, each once. A checkpoint says how much of them
//! counts, and only after it is on the disk; what lies beyond it is cut off when the batch goes on.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    batch::{BatchRecord, Checkpoint},
    calls::ScoredChunk,
    live::Batch,
    metrics::ScoringMetrics,
    plan::Plan,
    quota::QuotaExceeded,
    request::OnError,
    results::Encoder,
    rows::RowError,
};

/// Longest time between two checkpoints, while there is something to write.
const INTERVAL: Duration = Duration::from_millis(500);

/// Why no more results are written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// A row could not be scored, and the batch is to stop there.
    #[error("{0}")]
    Row(RowError),
    /// The tenant has as much as it may have.
    #[error("{0}")]
    Quota(#[from] QuotaExceeded),
    /// The disk failed, or is full.
    #[error("the results can't be written: {0}")]
    Disk(#[from] io::Error),
}

/// The writer of one turn of a batch.
pub(crate) struct Writer<'p> {
    batch: Arc<Batch>,
    metrics: ScoringMetrics,
    encoder: Encoder<'p>,
    record: BatchRecord,
    file: File,
    /// What is written, but not yet certain to stay.
    reached: Checkpoint,
    text: Vec<u8>,
    saved: Instant,
}

impl<'p> Writer<'p> {
    /// Goes on where the last checkpoint is.
    pub(crate) fn open(
        batch: Arc<Batch>,
        metrics: ScoringMetrics,
        plan: &'p Plan,
    ) -> Result<Self, WriteError> {
        let record = batch.record();
        let encoder = Encoder::new(plan, record.spec.output_format);
        let path = batch.folder.results();
        let mut file = File::options().create(true).truncate(false).write(true).open(path)?;
        let reached = record.checkpoint;
        if file.metadata()?.len() > reached.results {
            file.set_len(reached.results)?;
        }
        file.seek(SeekFrom::End(0))?;
        batch.cut_back();
        let (text, saved) = (Vec::new(), Instant::now());
        let mut writer = Self { batch, metrics, encoder, record, file, reached, text, saved };
        if reached.results == 0 {
            writer.text = writer.encoder.header();
            writer.append(reached)?;
        }
        Ok(writer)
    }

    /// Writes what comes, until there is no more of it or it can't be written.
    pub(crate) fn write_all(
        mut self,
        mut scored: mpsc::Receiver<ScoredChunk>,
    ) -> Result<(), WriteError> {
        let mut outcome = Ok(());
        while let Some(chunk) = scored.blocking_recv() {
            outcome = self.take(chunk);
            if outcome.is_err() {
                break;
            }
            if self.saved.elapsed() >= INTERVAL {
                self.save()?;
            }
        }
        // Whatever ended it, the rows before it have their results.
        self.save()?;
        outcome
    }

    fn take(&mut self, scored: ScoredChunk) -> Result<(), WriteError> {
        self.text.clear();
        let rows = self.encoder.encode(scored, &mut self.text);
        let (mut next, mut end, mut bad) = (self.reached, 0, None);
        for row in rows {
            if row.error.is_some() && self.record.spec.on_error == OnError::Stop {
                bad = row.error;
                break;
            }
            next.position = row.place.end;
            next.failed += u64::from(row.error.is_some());
            end = row.end;
        }
        self.text.truncate(end);
        self.append(next)?;
        bad.map_or(Ok(()), |error| Err(WriteError::Row(error)))
    }

    /// Writes the text, with which `next` is reached but for the bytes of the results.
    fn append(&mut self, mut next: Checkpoint) -> Result<(), WriteError> {
        let bytes = self.text.len() as u64;
        self.batch.grow(bytes)?;
        self.file.write_all(&self.text)?;
        next.results += bytes;
        self.reached = next;
        Ok(())
    }

    /// Makes a checkpoint of what was reached.
    fn save(&mut self) -> Result<(), WriteError> {
        self.saved = Instant::now();
        if self.reached == self.record.checkpoint {
            return Ok(());
        }
        self.file.sync_data()?;
        let before = std::mem::replace(&mut self.record.checkpoint, self.reached);
        self.batch.folder.write(&self.record)?;
        let failed = self.reached.failed - before.failed;
        self.metrics.scored(self.reached.position.row - before.position.row - failed, failed);
        self.batch.reached(self.reached);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use prometheus::Registry;
    use quern_types::{ByteSize, DataType, Tensor, TensorSpec};

    use super::*;
    use crate::{
        batch::{BatchId, BatchState},
        calls::Piece,
        folder::Folder,
        plan::Layout,
        quota::Quota,
        rows::{Chunk, Place, Position, Slot},
    };

    const HEADER: &str = "row,y,error\r\n";

    fn plan() -> Plan {
        let y =
            TensorSpec { name: "y".into(), dtype: DataType::Int8, shape: vec![-1], range: None };
        Plan { inputs: vec![], keep: vec![], layout: Layout::Rows, call_rows: 8, outputs: vec![y] }
    }

    /// A batch of a file of ten bytes that has come this far.
    fn batch(
        folder: &Folder,
        quota: ByteSize,
        on_error: &str,
        checkpoint: Checkpoint,
    ) -> Arc<Batch> {
        let id = BatchId::new();
        let spec = format!(
            r#"{{"model": "m", "version": 1, "format": "csv", "output_format": "csv", "on_error": "{on_error}"}}"#
        );
        let record = BatchRecord {
            id,
            tenant: quern_types::TenantId::default(),
            spec: serde_json::from_str(&spec).expect("a spec"),
            created: std::time::SystemTime::UNIX_EPOCH,
            input_bytes: 10,
            checkpoint,
            ending: None,
            finished: None,
        };
        let arriving = folder.begin(id).expect("a folder");
        fs::write(arriving.input(), "x\n1\n2\n3\n").expect("written");
        folder.finish(&arriving, &record).expect("kept");
        Arc::new(Batch::new(record, folder.of(id), &Quota::new(quota)))
    }

    /// Rows with these outcomes, the first of them with this number.
    fn scored(first: u64, outcomes: &[Result<i8, &str>]) -> ScoredChunk {
        let place =
            |row| Place { row, line: None, end: Position { row, byte: row * 2, line: row } };
        let slot = |(row, outcome): (u64, &Result<i8, &str>)| {
            let place = place(row);
            let outcome = outcome.map(drop).map_err(|reason| place.error(None, reason.into()));
            Slot { place, kept: vec![], outcome }
        };
        let slots: Vec<_> = (first..).zip(outcomes).map(slot).collect();
        let good: Vec<i8> = outcomes.iter().filter_map(|outcome| outcome.ok()).collect();
        let count = good.len();
        let y = Tensor::from_elements("y", DataType::Int8, vec![count as u64], good);
        let pieces = vec![Piece::Computed(count, vec![y.expect("valid")])];
        ScoredChunk { chunk: Chunk { slots, inputs: vec![], good: count }, pieces }
    }

    fn write(batch: &Arc<Batch>, chunks: Vec<ScoredChunk>) -> Result<(), WriteError> {
        let (sender, receiver) = mpsc::channel(8);
        chunks.into_iter().for_each(|chunk| sender.try_send(chunk).expect("has room"));
        drop(sender);
        let metrics = ScoringMetrics::register(&Registry::new()).expect("registers");
        Writer::open(batch.clone(), metrics, &plan())?.write_all(receiver)
    }

    fn folder() -> (tempfile::TempDir, Folder) {
        let data = tempfile::tempdir().expect("a folder");
        let (folder, found) = Folder::open(data.path().join("batches")).expect("opens");
        assert!(found.is_empty());
        (data, folder)
    }

    #[test]
    fn what_lies_beyond_the_checkpoint_is_cut_off() {
        let (data, folder) = folder();
        let before = format!("{HEADER}1,7,\r\n");
        let checkpoint = Checkpoint {
            position: Position { row: 1, byte: 2, line: 1 },
            failed: 0,
            results: before.len() as u64,
        };
        let batch = batch(&folder, ByteSize::mib(1), "record", checkpoint);
        fs::write(batch.folder.results(), format!("{before}2,8,\r\n3,")).expect("written");
        write(&batch, vec![scored(2, &[Ok(8), Err("is bad")]), scored(4, &[Ok(9)])])
            .expect("written");
        let results = fs::read_to_string(batch.folder.results()).expect("is there");
        assert_eq!(results, format!("{before}2,8,\r\n3,,row 3 is bad\r\n4,9,\r\n"));
        let reached = batch.record().checkpoint;
        assert_eq!((reached.position.row, reached.failed), (4, 1));
        assert_eq!(reached.results, results.len() as u64);
        // What is on the disk says the same.
        drop(folder);
        let (_, found) = Folder::open(data.path().join("batches")).expect("opens");
        assert_eq!(found[0].checkpoint, reached);
    }

    #[test]
    fn a_batch_that_stops_at_a_bad_row_keeps_those_before_it() {
        let (_data, folder) = folder();
        let batch = batch(&folder, ByteSize::mib(1), "stop", Checkpoint::default());
        let stopped = write(&batch, vec![scored(1, &[Ok(1), Err("is bad"), Ok(3)])]);
        assert_eq!(stopped.expect_err("bad").to_string(), "row 2 is bad");
        let results = fs::read_to_string(batch.folder.results()).expect("is there");
        assert_eq!(results, format!("{HEADER}1,1,\r\n"));
        assert_eq!(batch.record().checkpoint.position.row, 1);
    }

    #[test]
    fn a_full_disk_or_quota_is_said_and_nothing_is_lost() {
        let (_data, folder) = folder();
        let small = batch(&folder, ByteSize(40), "stop", Checkpoint::default());
        let refused = write(&small, vec![scored(1, &[Ok(1)]), scored(2, &[Ok(2); 8])]);
        assert!(matches!(refused, Err(WriteError::Quota(_))), "{refused:?}");
        assert_eq!(small.record().checkpoint.position.row, 1);
        let full = batch(&folder, ByteSize::mib(1), "stop", Checkpoint::default());
        fs::remove_file(full.folder.results()).expect("is there");
        symlink("/dev/full", full.folder.results()).expect("made");
        let refused = write(&full, vec![scored(1, &[Ok(1)])]).expect_err("full").to_string();
        assert!(refused.starts_with("the results can't be written: No space left"), "{refused}");
        assert_eq!(
            (full.record().checkpoint, full.state()),
            (Checkpoint::default(), BatchState::Queued)
        );
    }
}
