//! Spans of times that a schedule was called at, without a gap in any of them: what is remembered of
//! them when their calls are kept no longer. Knows nothing of calls.

use rusqlite::{Row, types::Type};
use serde::{Deserialize, Serialize};

/// Most spans that are remembered of a schedule: between two of them times were left out.
const MOST: usize = 8;

/// All times after the first and up to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Span(pub(super) i64, pub(super) i64);

/// Whether one of them has a time.
pub(super) fn hold(spans: &[Span], time: i64) -> bool {
    spans.iter().any(|Span(since, until)| *since < time && time <= *until)
}

/// Remembers one more, as one with those that it meets. Beyond what is remembered, the earliest of the
/// others go.
pub(super) fn add(spans: Vec<Span>, Span(since, until): Span) -> Vec<Span> {
    if since >= until {
        return spans;
    }
    let meets = |span: &Span| span.0 <= until && since <= span.1;
    let (meeting, mut spans): (Vec<_>, Vec<_>) = spans.into_iter().partition(meets);
    let since = meeting.iter().fold(since, |since, span| since.min(span.0));
    let until = meeting.iter().fold(until, |until, span| until.max(span.1));
    spans.sort_unstable_by_key(|span| span.1);
    spans.drain(..spans.len().saturating_sub(MOST - 1));
    spans.push(Span(since, until));
    spans.sort_unstable_by_key(|span| span.1);
    spans
}

/// As they stand in a column.
pub(super) fn written(spans: &[Span]) -> String {
    serde_json::to_string(spans).expect("numbers are JSON")
}

/// Those of a column.
pub(super) fn read(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<Span>> {
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_meet_are_one() {
        for (before, new, expected) in [
            (vec![], (0, 10), vec![(0, 10)]),
            (vec![(0, 10)], (10, 20), vec![(0, 20)]),
            (vec![(0, 10)], (12, 20), vec![(0, 10), (12, 20)]),
            (vec![(12, 20)], (0, 10), vec![(0, 10), (12, 20)]),
            (vec![(0, 10), (12, 20)], (10, 12), vec![(0, 20)]),
            (vec![(0, 10), (12, 20)], (2, 4), vec![(0, 10), (12, 20)]),
            (vec![(0, 10), (12, 20)], (-5, 30), vec![(-5, 30)]),
            (vec![(0, 10)], (15, 15), vec![(0, 10)]),
        ] {
            let span = |(since, until)| Span(since, until);
            let spans = |pairs: Vec<(i64, i64)>| pairs.into_iter().map(span).collect::<Vec<_>>();
            assert_eq!(add(spans(before), span(new)), spans(expected), "{new:?}");
        }
        let held: Vec<_> = (9..=13).filter(|time| hold(&[Span(10, 12)], *time)).collect();
        assert_eq!(held, [11, 12]);
    }

    #[test]
    fn no_more_are_remembered_than_may_be_and_the_latest_are() {
        let spans = (0..20).fold(Vec::new(), |spans, number| {
            let jump = 10 * (number * 7 % 20);
            add(spans, Span(jump, jump + 1))
        });
        assert_eq!(spans.len(), MOST);
        assert_eq!((spans[0], spans[MOST - 1]), (Span(120, 121), Span(190, 191)));
        // A clock that is right may be behind all that was called by those that were ahead.
        let spans = add(add(spans, Span(0, 1)), Span(1, 2));
        assert_eq!(spans.len(), MOST);
        assert_eq!((spans[0], spans[1]), (Span(0, 2), Span(130, 131)));
    }
}
