//! Looks for damage in a write-ahead log of SQLite, which takes a log to end where its checksums stop
//! being right: after a power cut that is where it ends, but behind damage lie commits that would be
//! lost without a word. The form is that of <https://sqlite.org/walformat.html>.

use std::io::{self, BufReader, Read};

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The last bit says whether sums are of words with the highest byte first.
const MAGIC: u32 = 0x377f_0682;

/// Whether commits lie in a log behind something that is damaged. One may be there after a power cut,
/// whose parts have reached the disk in another order: it was never acknowledged. Others are what is
/// left of commits that were refused, as they could not be synced, and that shorter ones have been
/// written over: each ends a run of frames whose sums follow from one another, and no run has two, as
/// each commit is synced before the next is written. A log is emptied at every start.
pub(super) fn hides_commits(log: impl Read) -> io::Result<bool> {
    let mut log = BufReader::with_capacity(256 << 10, log);
    let mut header = [0; HEADER];
    // What has no header yet has no commit either.
    if !fill(&mut log, &mut header)? || header == [0; HEADER] {
        return Ok(false);
    }
    let Some(start) = Start::parse(&header) else { return Ok(true) };
    let mut frame = vec![0; FRAME_HEADER + start.page_bytes];
    let (mut before, mut is_sound, mut hidden) = (start.sum, true, 0);
    while fill(&mut log, &mut frame)? {
        // Those of others are left from before the log was begun anew.
        let is_of_this = frame[8..16] == start.salts;
        let sum = checksum(start.highest_first, before, &frame[..8]);
        let sum = checksum(start.highest_first, sum, &frame[FRAME_HEADER..]);
        before = (word(&frame, 16), word(&frame, 20));
        let follows = is_of_this && before == sum;
        if is_sound {
            is_sound = follows;
        } else if !follows {
            hidden = 0;
        }
        let is_commit = word(&frame, 4) != 0;
        hidden += u32::from(!is_sound && is_of_this && is_commit);
        if hidden > 1 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a header says.
struct Start {
    highest_first: bool,
    page_bytes: usize,
    salts: [u8; 8],
    sum: (u32, u32),
}

impl Start {
    fn parse(header: &[u8; HEADER]) -> Option<Self> {
        let magic = word(header, 0);
        let highest_first = magic & 1 == 1;
        let sum = checksum(highest_first, (0, 0), &header[..24]);
        let page_bytes = word(header, 8);
        let is_sound = magic & !1 == MAGIC
            && sum == (word(header, 24), word(header, 28))
            && page_bytes.is_power_of_two()
            && (512..=65_536).contains(&page_bytes);
        let salts = header[16..24].try_into().ok()?;
        is_sound.then_some(Self { highest_first, page_bytes: page_bytes as usize, salts, sum })
    }
}

/// Fills a buffer; false where less is left.
fn fill(log: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn checksum(highest_first: bool, sum: (u32, u32), bytes: &[u8]) -> (u32, u32) {
    let word = |at: &[u8]| {
        let bytes = [at[0], at[1], at[2], at[3]];
        if highest_first { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    bytes.chunks_exact(8).fold(sum, |(first, second), pair| {
        let first = first.wrapping_add(word(pair)).wrapping_add(second);
        (first, second.wrapping_add(word(&pair[4..])).wrapping_add(first))
    })
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    const FRAME: usize = FRAME_HEADER + 4096;

    /// A log of five commits, of a page each.
    fn log() -> Vec<u8> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.sqlite");
        let connection = Connection::open(&path).expect("opens");
        connection
            .execute_batch("CREATE TABLE a (x); PRAGMA journal_mode = wal")
            .expect("a log from now on");
        for number in 0..5 {
            connection.execute("INSERT INTO a VALUES (?1)", [number]).expect("inserted");
        }
        let log = std::fs::read(folder.path().join("x.sqlite-wal")).expect("a log");
        assert_eq!(log.len(), HEADER + 5 * FRAME);
        log
    }

    fn hides(log: &[u8]) -> bool {
        hides_commits(log).expect("in memory")
    }

    #[test]
    fn a_changed_byte_is_found_where_more_than_one_commit_is_behind_it() {
        let log = log();
        assert!(!hides(&log));
        for frame in 0..5 {
            for at in [0, 10, 20, FRAME_HEADER, FRAME / 2, FRAME - 1] {
                let mut damaged = log.clone();
                damaged[HEADER + frame * FRAME + at] ^= 1;
                // Its own commit may have been cut by a power cut, if it is the last; and with its
                // salt or its sum gone, nothing says that the last one belongs to it.
                let is_found = frame < 3 || frame == 3 && ![10, 20].contains(&at);
                assert_eq!(hides(&damaged), is_found, "{frame} {at}");
            }
        }
        for at in 0..HEADER {
            let mut damaged = log.clone();
            damaged[at] ^= 1;
            assert!(hides(&damaged), "header, {at}");
        }
    }

    /// Writes a commit of so many frames behind so many that are kept, over what is there.
    fn commit(log: &mut Vec<u8>, kept: usize, frames: usize) {
        let start = Start::parse(log[..HEADER].try_into().expect("a header")).expect("sound");
        let end = |frame: usize| HEADER + frame * FRAME;
        let last = end(kept - 1);
        let mut sum = (word(log, last + 16), word(log, last + 20));
        log.resize(log.len().max(end(kept + frames)), 0);
        for number in 0..frames {
            let frame = &mut log[end(kept + number)..][..FRAME];
            frame.fill(number as u8);
            frame[4..8].copy_from_slice(&u32::from(number + 1 == frames).to_be_bytes());
            frame[8..16].copy_from_slice(&start.salts);
            sum = checksum(start.highest_first, sum, &frame[..8]);
            sum = checksum(start.highest_first, sum, &frame[FRAME_HEADER..]);
            frame[16..20].copy_from_slice(&sum.0.to_be_bytes());
            frame[20..24].copy_from_slice(&sum.1.to_be_bytes());
        }
    }

    #[test]
    fn what_is_left_of_refused_commits_is_no_damage() {
        let mut log = log();
        log.truncate(HEADER + FRAME);
        for frames in [8, 5, 3, 2, 1] {
            commit(&mut log, 1, frames);
            assert!(!hides(&log), "{frames}");
        }
        // Commits that were taken are missed where something before them is damaged.
        for kept in 2..6 {
            commit(&mut log, kept, 1);
        }
        assert!(!hides(&log));
        log[HEADER + 2 * FRAME + FRAME_HEADER] ^= 1;
        assert!(hides(&log));
    }

    #[test]
    fn what_a_power_cut_leaves_is_no_damage() {
        let log = log();
        for length in (0..log.len()).step_by(97) {
            assert!(!hides(&log[..length]), "cut at {length}");
        }
        let mut torn = log.clone();
        torn[HEADER + 4 * FRAME..][..1000].fill(0);
        assert!(!hides(&torn), "the last commit was under way");
        let mut new = log.clone();
        new[..HEADER].fill(0);
        assert!(!hides(&new), "the first commit was under way");
        // What is left of a log that was longer has other salts.
        let mut begun_anew = log.clone();
        for frame in 2..5 {
            begun_anew[HEADER + frame * FRAME + 8] ^= 1;
        }
        assert!(!hides(&begun_anew));
    }
}
