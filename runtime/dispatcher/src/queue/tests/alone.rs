//! Calls that come alone, and are computed where they come.

use super::*;

/// A row for a queue that computes it where it comes: all calls before it came alone.
async fn row_here(queue: &Arc<BatchQueue>, byte: u8) -> QueuedCall {
    let here = |byte| QueuedCall { place: Place::Here, ..row(byte) };
    for _ in 0..100 {
        assert!(queue.compute(here(0)).await.is_ok());
    }
    here(byte)
}

#[tokio::test]
async fn calls_that_come_alone_are_computed_where_they_come() {
    let queue = queue(&Increment::new(1, 8));
    let early = QueuedCall { place: Place::Here, ..row(0) };
    assert!(queue.compute(early).now_or_never().is_none(), "others may come");
    let alone = row_here(&queue, 0).await;
    assert!(queue.compute(alone).now_or_never().is_some());
    assert!(queue.compute(row(0)).now_or_never().is_none(), "not here");
    let busy = row_here(&queue, 3).await;
    let others = [0, 1].map(|byte| QueuedCall { place: Place::Here, ..row(byte) });
    let [first, second] = others.map(|call| queue.compute(call));
    let (busy, first, second) = tokio::join!(queue.compute(busy), first, second);
    assert_eq!(busy.expect("computed").batch_rows, 1);
    assert_eq!([first, second].map(|other| other.expect("computed").batch_rows), [2, 2]);
}

#[tokio::test]
async fn who_leaves_a_call_that_is_computed_here_leaves_it_to_its_end() {
    let replica = Increment::new(1, 8);
    let queue = queue(&replica);
    // It takes some turns.
    let call = row_here(&queue, 5).await;
    assert!(queue.compute(call).now_or_never().is_none());
    assert_eq!(replica.runs().last(), Some(&Some(5)));
    assert!(!queue.lock().batcher.is_at_rest(), "it runs");
    assert!(queue.compute(row(1)).await.is_ok(), "and gives its lane back");
}

#[tokio::test]
async fn a_run_that_is_lost_here_harms_its_call_alone() {
    let queue = queue(&Increment::new(1, 8));
    // The sum of the bytes says that it panics within the first turn, or in a later one.
    for bytes in [vec![BOMB, 5], vec![BOMB, 6]] {
        let place = row_here(&queue, 0).await.place;
        let bomb = QueuedCall { place, ..call(tensor(&[1, 2], bytes)) };
        assert_eq!(queue.compute(bomb).await.err(), Some(Uncomputed::Lost));
        assert!(queue.compute(row(1)).await.is_ok(), "the lane is free again");
    }
}

#[tokio::test]
async fn an_oversized_call_that_comes_alone_is_computed_on_all_lanes() {
    let replica = Increment::new(2, 4);
    let queue = queue(&replica);
    let place = row_here(&queue, 0).await.place;
    let large = QueuedCall { place, ..call(tensor(&[11, 1], vec![3; 11])) };
    let computed = queue.compute(large).await.expect("computed");
    assert_eq!(computed.outputs[0].data()[..], [4; 11]);
    assert!(queue.lock().calls.is_empty());
}
