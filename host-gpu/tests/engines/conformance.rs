//! Every engine gives the same answers, for every element type that it has, in this process and in
//! a worker.

use quern_host_gpu::inspect;
use quern_types::{DataType, DeviceError, Engine, Tensor};

use crate::{
    device::{floats, load, rows, run, single, targets, values},
    graphs::{Dim, Fixed, Graph, Named, Onnx, Open, doubling, two_by_two},
};

#[tokio::test]
async fn inputs_and_outputs_keep_their_order_and_names() {
    let onnx = two_by_two().encode();
    for (device, engine) in targets().await {
        let replica = load(&*device, &onnx, engine, rows(8)).await.expect("loads");
        let call = vec![
            floats("a", &[2, 2], &[1., -1., 2., -2.]),
            floats("b", &[2, 3], &[1., 0., 0., 0., 2., 4.]),
        ];
        let replies = run(&*replica, vec![call]).await.expect("runs");
        let [sum, top] = &replies[0][..] else { panic!("{engine}: {replies:?}") };
        assert_eq!((&**sum.name(), sum.shape()), ("sum", &[2, 2][..]), "{engine}");
        assert_eq!(values(sum), [2., -3., -1., 5.], "{engine}");
        assert_eq!((&**top.name(), values(top)), ("top", vec![1., 0., 2., 0.]), "{engine}");
    }
}

#[tokio::test]
async fn every_element_type_of_an_engine_goes_in_and_comes_out() {
    let types = [
        (Onnx::Float, DataType::Fp32),
        (Onnx::Double, DataType::Fp64),
        (Onnx::Float16, DataType::Fp16),
        (Onnx::Bfloat16, DataType::Bf16),
        (Onnx::Bool, DataType::Bool),
        (Onnx::Uint8, DataType::Uint8),
        (Onnx::Uint16, DataType::Uint16),
        (Onnx::Uint32, DataType::Uint32),
        (Onnx::Uint64, DataType::Uint64),
        (Onnx::Int8, DataType::Int8),
        (Onnx::Int16, DataType::Int16),
        (Onnx::Int32, DataType::Int32),
        (Onnx::Int64, DataType::Int64),
    ];
    for (device, engine) in targets().await {
        for (onnx, dtype) in types {
            let onnx = Graph::default()
                .input("x", onnx, &[Open, Fixed(3)])
                .output("y", onnx, &[Open, Fixed(3)])
                .node("Identity", &["x"], "y")
                .encode();
            let size = dtype.size().expect("a fixed size");
            let data: Vec<u8> = (0..3 * size).map(|byte| (byte % 2) as u8).collect();
            let tensor = Tensor::new("x", dtype, vec![1, 3], data.clone()).expect("a tensor");
            let replica = load(&*device, &onnx, engine, rows(8)).await;
            if (engine, dtype) == (Engine::Tract, DataType::Bf16) {
                let Err(DeviceError::Load { reason, .. }) = replica.map(|_| ()) else {
                    panic!("tract has no BF16")
                };
                assert!(reason.contains("Bfloat16"), "{reason}");
                continue;
            }
            let replica = replica.unwrap_or_else(|error| panic!("{dtype}: {error}"));
            let replies = run(&*replica, vec![vec![tensor]]).await;
            let replies = replies.unwrap_or_else(|error| panic!("{dtype}: {error}"));
            assert_eq!(replies[0][0].dtype(), dtype, "{engine}");
            assert_eq!(replies[0][0].data(), &data, "{engine} {dtype}");
        }
    }
}

#[tokio::test]
async fn texts_go_in_and_come_out_where_an_engine_has_them() {
    let dims = [Open, Fixed(2)];
    let onnx = Graph::default()
        .input("x", Onnx::String, &dims)
        .output("y", Onnx::String, &dims)
        .node("Identity", &["x"], "y")
        .encode();
    let texts = |texts: &[&[u8]]| {
        let data =
            texts.iter().flat_map(|text| [&(text.len() as u32).to_le_bytes(), *text].concat());
        let shape = vec![texts.len() as u64 / 2, 2];
        Tensor::new("x", DataType::Bytes, shape, data.collect::<Vec<_>>()).expect("texts")
    };
    let calls = [
        texts(&[b"one", b""]),
        texts(&[b"zero\0 within", b"\xff no UTF-8", "zw\u{f6}lf".as_bytes(), &[b'a'; 5_000]]),
        texts(&[]),
    ];
    let have_texts = |(_, engine): &(_, Engine)| *engine != Engine::Tract;
    for (device, engine) in targets().await.into_iter().filter(have_texts) {
        let replica = load(&*device, &onnx, engine, rows(8)).await.expect("loads");
        let batch = calls.iter().map(|call| vec![call.clone()]).collect();
        let replies = run(&*replica, batch).await.expect("runs");
        for (call, reply) in calls.iter().zip(&replies) {
            assert_eq!((reply[0].shape(), reply[0].data()), (call.shape(), call.data()));
        }
    }
}

#[tokio::test]
async fn shapes_that_differ_from_call_to_call_work_one_call_at_a_time() {
    let cases: [&[Dim]; 2] = [&[Open, Open], &[Named("height"), Named("width")]];
    for (device, engine) in targets().await {
        for dims in cases {
            let onnx = Graph::default()
                .input("x", Onnx::Float, dims)
                .output("y", Onnx::Float, dims)
                .node("Add", &["x", "x"], "y")
                .encode();
            let replica = load(&*device, &onnx, engine, single()).await.expect("loads");
            for shape in [[1, 4], [3, 2], [1, 1]] {
                let ones = vec![1.; (shape[0] * shape[1]) as usize];
                let call = vec![floats("x", &shape, &ones)];
                let replies = run(&*replica, vec![call]).await.expect("runs");
                assert_eq!(replies[0][0].shape(), shape, "{engine}");
                assert!(values(&replies[0][0]).iter().all(|value| *value == 2.), "{engine}");
            }
        }
    }
}

#[tokio::test]
async fn a_scalar_goes_in_and_comes_out() {
    let onnx = Graph::default()
        .input("x", Onnx::Float, &[])
        .output("y", Onnx::Float, &[])
        .node("Neg", &["x"], "y")
        .encode();
    for (device, engine) in targets().await {
        let replica = load(&*device, &onnx, engine, single()).await.expect("loads");
        let replies = run(&*replica, vec![vec![floats("x", &[], &[1.5])]]).await.expect("runs");
        assert_eq!((replies[0][0].shape(), values(&replies[0][0])), (&[][..], vec![-1.5]));
    }
}

#[tokio::test]
async fn weights_that_stand_among_the_inputs_are_not_asked_for() {
    let onnx = Graph::default()
        .input("w", Onnx::Float, &[Fixed(3)])
        .input("x", Onnx::Float, &[Named("batch"), Fixed(3)])
        .floats("w", &[3], &[1., 2., 3.])
        .output("y", Onnx::Float, &[Named("batch"), Fixed(3)])
        .node("Mul", &["x", "w"], "y")
        .encode();
    let outline = inspect(&onnx).expect("a model");
    assert_eq!(outline.signature.inputs().len(), 1);
    for (device, engine) in targets().await {
        let replica = load(&*device, &onnx, engine, rows(4)).await.expect("loads");
        let call = vec![floats("x", &[1, 3], &[1., 1., 2.])];
        let replies = run(&*replica, vec![call]).await.expect("runs");
        assert_eq!(values(&replies[0][0]), [1., 2., 6.], "{engine}");
    }
}

#[tokio::test]
async fn each_lane_computes_on_its_own() {
    let onnx = doubling(Onnx::Float).encode();
    for (device, engine) in targets().await {
        let replica = load(&*device, &onnx, engine, rows(8)).await.expect("loads");
        let runs = (0..replica.lanes() * 8).map(|index| {
            let (replica, value) = (replica.clone(), index as f32);
            let lane = index % replica.lanes();
            tokio::spawn(async move {
                let call = vec![floats("x", &[1, 3], &[value; 3])];
                let result = replica.run(lane, quern_types::Batch { calls: vec![call] }).await;
                let result = result.expect("runs");
                assert_eq!(values(&result.calls[0][0]), [2. * value; 3]);
            })
        });
        for run in runs.collect::<Vec<_>>() {
            run.await.expect("every lane answers its own call");
        }
    }
}
