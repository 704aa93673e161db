//! However calls are put together, each gets the outputs of its own rows and of no others.

use bytes::{BufMut, BytesMut};
use futures::FutureExt as _;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use quern_types::{DataType, Tensor};

use crate::{
    device::{floats, load, rows, run, run_reason, single, targets, values},
    graphs::{Onnx, doubling, two_by_two},
};

/// What `two_by_two` gives for a row, computed by hand.
fn expected(a: [f32; 2], b: [f32; 3]) -> ([f32; 2], [f32; 2]) {
    let sum = [a[0] + b[0] + 0.5 * b[1] - b[2], a[1] - 2. * b[0] + 3. * b[1] + 0.25 * b[2]];
    (sum, a.map(|value| value.max(0.)))
}

/// A tensor whose bytes begin at an odd address.
fn unaligned(name: &str, shape: &[u64], values: &[f32]) -> Tensor {
    let mut bytes = BytesMut::with_capacity(values.len() * 4 + 1);
    bytes.put_u8(0);
    values.iter().for_each(|value| bytes.put_f32_le(*value));
    let data = bytes.freeze().slice(1..);
    Tensor::new(name, DataType::Fp32, shape.to_vec(), data).expect("a tensor")
}

type Row = ([i8; 2], [i8; 3]);

fn call(rows: &[Row], aligned: bool) -> Vec<Tensor> {
    let tensor = if aligned { floats } else { unaligned };
    let count = rows.len() as u64;
    let a: Vec<f32> = rows.iter().flat_map(|row| row.0.map(f32::from)).collect();
    let b: Vec<f32> = rows.iter().flat_map(|row| row.1.map(f32::from)).collect();
    vec![tensor("a", &[count, 2], &a), tensor("b", &[count, 3], &b)]
}

#[test]
fn any_split_into_batches_gives_each_call_its_own_rows() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let onnx = two_by_two().encode();
    let calls = prop::collection::vec(
        (prop::collection::vec(any::<Row>(), 1..5), any::<bool>(), any::<bool>()),
        1..12,
    );
    for (device, engine) in runtime.block_on(targets()) {
        let replica = runtime.block_on(load(&*device, &onnx, engine, rows(64))).expect("loads");
        let mut runner =
            TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
        runner
            .run(&calls, |calls| {
                // The last flag of a call says whether a batch ends with it.
                let mut batch: Vec<&[Row]> = vec![];
                let mut tensors = vec![];
                for (index, (rows, aligned, ends)) in calls.iter().enumerate() {
                    batch.push(rows);
                    tensors.push(call(rows, *aligned));
                    if !ends && index + 1 < calls.len() {
                        continue;
                    }
                    let given = std::mem::take(&mut tensors);
                    let replies = runtime.block_on(run(&*replica, given)).expect("runs");
                    prop_assert_eq!(replies.len(), batch.len());
                    for (rows, reply) in batch.drain(..).zip(&replies) {
                        let wanted: (Vec<_>, Vec<_>) = rows
                            .iter()
                            .map(|row| expected(row.0.map(f32::from), row.1.map(f32::from)))
                            .unzip();
                        prop_assert_eq!(reply[0].shape(), [rows.len() as u64, 2]);
                        prop_assert_eq!(values(&reply[0]), wanted.0.concat());
                        prop_assert_eq!(values(&reply[1]), wanted.1.concat());
                    }
                }
                Ok(())
            })
            .unwrap_or_else(|failure| panic!("{engine}: {failure}"));
    }
}

#[tokio::test]
async fn calls_that_can_not_share_a_run_are_refused_and_the_next_run_works() {
    let onnx = two_by_two().encode();
    let good = || call(&[([1, 2], [3, 4, 5])], true);
    let uneven = vec![floats("a", &[2, 2], &[0.; 4]), floats("b", &[1, 3], &[0.; 3])];
    let other_width = vec![floats("a", &[1, 3], &[0.; 3]), floats("b", &[1, 3], &[0.; 3])];
    let scalar = vec![floats("a", &[], &[0.]), floats("b", &[], &[0.])];
    let integers = Tensor::from_elements("a", DataType::Int32, vec![1, 2], vec![1i32, 2]);
    let integers = vec![integers.expect("a tensor"), good().remove(1)];
    let cases = [
        (rows(8), vec![], "a run of no calls"),
        (rows(8), vec![good(), good()[..1].to_vec()], "a call has 1 inputs, the model 2"),
        (rows(8), vec![uneven], "inputs \"a\" and \"b\" have different numbers of rows"),
        (rows(8), vec![good(), other_width], "input \"a\" has shapes [1, 2] and [1, 3] in one run"),
        (rows(8), vec![scalar], "a call has no rows"),
        (rows(8), vec![integers], "input \"a\" has datatype INT32, not FP32"),
        (single(), vec![good(), good()], "2 calls can't share a run: the test says so"),
    ];
    for (device, engine) in targets().await {
        for (axis, calls, reason) in &cases {
            let replica = load(&*device, &onnx, engine, axis.clone()).await.expect("loads");
            assert_eq!(&run_reason(run(&*replica, calls.clone()).await), reason, "{engine}");
            assert!(run(&*replica, vec![good()]).await.is_ok(), "{engine} after {reason}");
        }
    }
}

#[tokio::test]
async fn a_cancelled_run_leaves_its_lane_usable() {
    let onnx = doubling(Onnx::Float).encode();
    for (device, engine) in targets().await {
        let replica = load(&*device, &onnx, engine, rows(8)).await.expect("loads");
        for value in 0..20 {
            let batch = || quern_types::Batch {
                calls: vec![vec![floats("x", &[1, 3], &[value as f32; 3])]],
            };
            // Polled once, so that it may be under way, and dropped.
            _ = replica.run(0, batch()).now_or_never();
            let result = replica.run(0, batch()).await.expect("the lane is free again");
            assert_eq!(values(&result.calls[0][0]), [2. * value as f32; 3]);
        }
    }
}
