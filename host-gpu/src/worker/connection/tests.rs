//! A worker that does what it must not: it costs itself, and the server nothing.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, Stdio},
    thread::JoinHandle,
};

use bytes::Bytes;
use quern_types::{DataType, Engine};

use super::*;
use crate::worker::protocol::{MAX_MESSAGE, Port};

/// A connection to a test that takes the worker's part, on one lane and one loader; the process is
/// another one.
struct Rig {
    connection: Connection,
    lane: OwnedFd,
    loader: OwnedFd,
    child: Child,
    ended: watch::Sender<Option<ExitStatus>>,
}

fn rig(limit: Duration) -> Rig {
    let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().expect("sleeps");
    let process = Arc::new(Process::of(child.id()).expect("is a child"));
    let (near, lane) = socket::pair().expect("a pair");
    let lanes = vec![Channel::new(near).expect("a channel")];
    let (near, loader) = socket::pair().expect("a pair");
    let loaders = vec![Channel::new(near).expect("a channel")];
    let (ended, ending) = watch::channel(None);
    let (control, _) = socket::pair().expect("a pair");
    let ready = Ready { ort_version: None, confinement: vec![] };
    let limits = Limits { run: limit, load: limit };
    let parts =
        Parts { generation: 1, process, ready, limits, lanes, loaders, ended: ending, control };
    Rig { connection: Connection::new(parts), lane, loader, child, ended }
}

impl Rig {
    /// Has requests on the lane answered in this way, one after the other.
    fn answer(&self, answers: Vec<Answer>) -> JoinHandle<()> {
        let lane = self.lane.try_clone().expect("another handle");
        std::thread::spawn(move || {
            for answer in answers {
                let mut buffer = vec![0; MAX_MESSAGE];
                // A worker that lied is asked nothing more.
                let Ok((request, file)) = socket::receive_with_file::<Request>(&lane, &mut buffer)
                else {
                    break;
                };
                let reply = answer(request, file.map(|file| Region::open(&file).expect("maps")));
                socket::send(&lane, &reply, None).expect("sends");
            }
        })
    }

    async fn run(&self, outputs: usize) -> Result<Ran, Failure> {
        let data = Bytes::from_static(&[1, 2, 3, 4]);
        let input = Input {
            name: "x".into(),
            dtype: DataType::Uint8,
            shape: vec![4],
            parts: vec![data.slice(..1), data.slice(1..)],
        };
        let expected = Expected { outputs, bytes: 0, time: Some(Duration::ZERO) };
        self.connection.run(0, ModelId(1), &[input], expected).await
    }

    fn is_killed(&mut self) -> bool {
        let status = self.child.wait().expect("is a child");
        status.signal() == Some(Signal::KILL.as_raw())
    }

    fn runs_on(&mut self) -> bool {
        self.child.try_wait().expect("is a child").is_none()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Answer = Box<dyn FnOnce(Request, Option<Region>) -> Reply + Send>;

const LIMIT: Duration = Duration::from_secs(60);

fn output(offset: u64, length: u64) -> Placed {
    Placed { dtype: DataType::Uint8, shape: vec![length], part: Part { offset, length } }
}

fn ran(outputs: Vec<Placed>) -> Reply {
    Reply::Ran { compute_ns: u64::MAX, outputs }
}

#[tokio::test]
async fn a_run_puts_inputs_into_shared_memory_and_takes_outputs_out_of_it() {
    let mut rig = rig(LIMIT);
    let echo: Answer = Box::new(|request, region| {
        let Request::Run { model: ModelId(1), inputs, room } = request else {
            panic!("not a run: {request:?}");
        };
        let region = region.expect("new memory");
        assert_eq!(inputs[0].shape, [4]);
        let data = region.read(inputs[0].part).expect("inside");
        region.write(Part { offset: room.offset, length: 4 }, &[data]).expect("inside");
        ran(vec![output(room.offset, 4)])
    });
    // The same memory serves the next run.
    let again: Answer = Box::new(|request, region| {
        let Request::Run { room, .. } = request else { panic!("not a run: {request:?}") };
        assert!(region.is_none());
        ran(vec![output(room.offset, 4)])
    });
    let worker = rig.answer(vec![echo, again]);
    for _ in 0..2 {
        let ran = rig.run(1).await.expect("runs");
        assert_eq!(&ran.outputs[0].data[..], [1, 2, 3, 4]);
        assert!(ran.compute < LIMIT, "a worker can't have computed longer than it was waited for");
    }
    worker.join().expect("no panic");
    assert!(rig.runs_on() && rig.connection.has_answered());
}

#[tokio::test]
async fn a_worker_that_lies_is_ended() {
    let lies: [fn(Part) -> Reply; 8] = [
        |_| ran(vec![]),
        |room| ran(vec![output(room.offset, 4), output(room.offset, 4)]),
        |room| ran(vec![output(room.offset, room.length + 1)]),
        |room| ran(vec![output(room.offset + room.length, 1)]),
        |_| ran(vec![output(u64::MAX, 2)]),
        |_| Reply::Done,
        |_| Reply::Refused { reason: "no".into() },
        |_| Reply::NoRoom { bytes: 8 },
    ];
    for (index, lie) in lies.into_iter().enumerate() {
        let mut rig = rig(LIMIT);
        let answer: Answer = Box::new(move |request, _| {
            let Request::Run { room, .. } = request else { panic!("not a run: {request:?}") };
            lie(room)
        });
        // Whoever keeps outputs back and then has none lies as well.
        let worker = rig.answer(vec![answer, Box::new(|_, _| ran(vec![output(u64::MAX, 1)]))]);
        let failure = rig.run(1).await.err();
        assert_eq!(failure, Some(Failure::Lost), "lie {index}");
        assert!(rig.is_killed(), "lie {index}");
        drop(rig);
        worker.join().expect("no panic");
    }
}

#[tokio::test]
async fn outputs_that_claim_the_same_memory_again_and_again_are_not_copied() {
    let mut rig = rig(LIMIT);
    let answer: Answer = Box::new(|_, region| {
        let bytes = region.expect("new memory").bytes();
        ran((0..1_000).map(|_| output(0, bytes)).collect())
    });
    let worker = rig.answer(vec![answer]);
    assert_eq!(rig.run(1_000).await.err(), Some(Failure::Lost));
    assert!(rig.is_killed());
    worker.join().expect("no panic");
}

#[tokio::test]
async fn outputs_without_room_get_memory_of_their_size_up_to_a_limit() {
    let mut rig = rig(LIMIT);
    let large = 3 * KEPT_BYTES;
    let collect: Answer = Box::new(move |request, region| {
        assert_eq!(request, Request::Collect);
        assert!(region.expect("new memory").bytes() >= large);
        ran(vec![output(0, large)])
    });
    let too_large: Answer = Box::new(|_, region| {
        assert!(region.is_some(), "so much memory is not kept");
        Reply::NoRoom { bytes: MAX_BYTES + 1 }
    });
    let no_room: Answer = Box::new(move |_, _| Reply::NoRoom { bytes: large });
    let worker = rig.answer(vec![no_room, collect, too_large]);
    let ran = rig.run(1).await.expect("runs");
    assert_eq!(ran.outputs[0].data.len() as u64, large);
    let Err(Failure::Failed { reason }) = rig.run(1).await else { panic!("it has room") };
    assert!(reason.contains("more than 2147483648 bytes"), "{reason}");
    worker.join().expect("no panic");
    assert!(rig.runs_on());
}

fn a_model(inputs: Vec<Port>) -> Load {
    Load { model: ModelId(1), engine: Engine::Tract, lanes: 1, inputs }
}

#[tokio::test]
async fn whoever_takes_too_long_is_ended() {
    let mut rig = rig(Duration::ZERO);
    assert_eq!(rig.run(1).await.err(), Some(Failure::Lost));
    assert!(rig.is_killed());

    let mut rig = self::rig(Duration::ZERO);
    let onnx = crate::process::region::sealed(b"a model").expect("memory");
    let loaded = rig.connection.load(a_model(vec![]), &onnx).await;
    let Err(Failure::Failed { reason }) = loaded else { panic!("it waited: {loaded:?}") };
    assert!(reason.contains("took longer than 0ns"), "{reason}");
    assert!(rig.is_killed());
}

#[tokio::test]
async fn a_model_is_to_blame_for_a_crash_while_nothing_else_ran() {
    let onnx = crate::process::region::sealed(b"a model").expect("memory");
    let cases = [(Signal::SEGV, true), (Signal::ABORT, true), (Signal::KILL, false)];
    for (signal, to_blame) in cases {
        let mut rig = rig(LIMIT);
        // The loader's end is closed, as it is when a process ends.
        rig.loader = socket::pair().expect("a pair").0;
        rig.ended.send_replace(Some(ExitStatus::from_raw(signal.as_raw())));
        let loaded = rig.connection.load(a_model(vec![]), &onnx).await;
        match loaded.expect_err("it crashed") {
            Failure::Failed { reason } => {
                assert!(to_blame && reason.contains("its process crashed"), "{reason}");
            }
            failure => assert!(!to_blame, "{signal:?}: {failure:?}"),
        }
    }
}

#[tokio::test]
async fn an_innocent_model_is_not_blamed_for_a_crash() {
    let onnx = crate::process::region::sealed(b"a model").expect("memory");
    let mut rig = rig(LIMIT);
    // Something else is under way, too.
    rig.connection.outstanding.fetch_add(1, Ordering::Relaxed);
    rig.loader = socket::pair().expect("a pair").0;
    rig.ended.send_replace(Some(ExitStatus::from_raw(Signal::SEGV.as_raw())));
    let loaded = rig.connection.load(a_model(vec![]), &onnx).await;
    assert_eq!(loaded, Err(Failure::Lost));
}

#[tokio::test]
async fn a_signature_that_no_message_can_hold_is_an_error_of_its_own() {
    let mut rig = rig(LIMIT);
    let onnx = crate::process::region::sealed(b"a model").expect("memory");
    let port = Port { name: "x".repeat(MAX_MESSAGE).into(), dtype: DataType::Fp32 };
    let loaded = rig.connection.load(a_model(vec![port]), &onnx).await;
    let Err(Failure::Failed { reason }) = loaded else { panic!("it was sent: {loaded:?}") };
    assert!(reason.contains("too long names"), "{reason}");
    assert!(rig.runs_on());
}
