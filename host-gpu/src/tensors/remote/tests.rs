//! A process that does what it must not: it costs itself, and the server nothing. The test takes
//! the process's part.

use std::{
    os::fd::OwnedFd,
    process::{Child, Command as Program, Stdio},
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    thread::{self, JoinHandle},
    time::Duration,
};

use quern_kernels::{CpuDevice, Device, Lane, LaneError, Ledger};
use quern_operators::{Description, Dtype, SessionLimits, Shape};
use quern_process::socket::{self, MAX_MESSAGE};

use super::{
    computer::Computer,
    connection::Connection,
    lane::RemoteLane,
    link::{Link, Peer, Told},
    protocol::{Fault, Held, MOST_AHEAD, Ready, Reply, Request},
};
use crate::process::Process;

/// A link to a test; the process is another one.
struct Rig {
    link: Link,
    peer: Arc<Peer>,
    far: OwnedFd,
    child: Child,
}

fn rig(patience: Duration) -> Rig {
    let child = Program::new("sleep").arg("1000").stdin(Stdio::null()).spawn().expect("sleeps");
    let process = Arc::new(Process::of(child.id()).expect("is a child"));
    let peer = Arc::new(Peer::new(process, patience));
    let (near, far) = socket::pair().expect("a pair");
    let link = Link::new(near, peer.clone()).expect("a link");
    let mut buffer = vec![0; MAX_MESSAGE];
    let first: Request = socket::receive(&far, &mut buffer).expect("comes first");
    assert_eq!(first, Request::Region);
    Rig { link, peer, far, child }
}

fn reply() -> Reply {
    Reply { computed_ns: 0, held: Held::default(), fault: None }
}

fn message() -> Vec<u8> {
    postcard::to_stdvec(&Request::Finish { session: 1 }).expect("encodes")
}

impl Rig {
    /// Asks once, and gets this for an answer.
    fn ask(&mut self, answer: &[u8]) -> (Arc<Told>, Result<(), LaneError>) {
        let told = Arc::new(Told::default());
        self.link.send(&told, &message(), None).expect("sends");
        socket::send_bytes(&self.far, answer, None).expect("sends");
        let settled = self.link.settle();
        (told, settled)
    }

    fn lost(&mut self, expected: &str) {
        let lost = LaneError::Lost { reason: format!("{expected}: try again") };
        assert_eq!(self.peer.check(), Err(lost.clone()));
        let again = self.link.send(&Arc::default(), &message(), None);
        assert_eq!(again, Err(lost));
        assert_eq!(self.peer.held_bytes(), 0, "what it had is free");
        assert!(!self.child.wait().expect("it has ended").success());
    }
}

#[test]
fn time_that_has_not_passed_is_not_charged() {
    let mut rig = rig(Duration::from_secs(60));
    let claim = Reply { computed_ns: u64::MAX, ..reply() };
    let (told, settled) = rig.ask(&postcard::to_stdvec(&claim).expect("encodes"));
    assert_eq!(settled, Ok(()));
    assert!(told.computed_ns.load(Relaxed) < 3_600_000_000_000, "no hour has passed");
    rig.child.kill().expect("it is there");
    rig.child.wait().expect("it has ended");
}

#[test]
fn the_newest_report_of_memory_counts_whichever_comes_first() {
    let mut rig = rig(Duration::from_secs(60));
    for (report, bytes, shown) in [(2, 7, 7), (1, 100, 7), (3, 0, 0)] {
        let held = Held { report, bytes };
        let said = Reply { held, ..reply() };
        let (_, settled) = rig.ask(&postcard::to_stdvec(&said).expect("encodes"));
        assert_eq!((settled, rig.peer.held_bytes()), (Ok(()), shown));
    }
    rig.child.kill().expect("it is there");
    rig.child.wait().expect("it has ended");
}

#[test]
fn nonsense_ends_the_process() {
    let mut rig = rig(Duration::from_secs(60));
    let (_, settled) = rig.ask(&[0xff; 40]);
    let Err(LaneError::Lost { reason }) = settled else { panic!("{settled:?}") };
    assert!(reason.starts_with("a message can't be read"), "{reason}");
    let reason = reason.strip_suffix(": try again").expect("it can be tried").to_owned();
    rig.lost(&reason);
}

#[test]
fn an_answer_that_does_not_come_ends_the_process() {
    let mut rig = rig(Duration::from_millis(50));
    rig.link.send(&Arc::default(), &message(), None).expect("sends");
    assert!(rig.link.settle().is_err());
    rig.lost("it did not get on for 50ms");
}

#[test]
fn a_process_that_takes_nothing_is_ended() {
    let mut rig = rig(Duration::from_millis(50));
    let long = vec![0; MAX_MESSAGE];
    let sent = (0..MOST_AHEAD).try_for_each(|_| rig.link.send(&Arc::default(), &long, None));
    assert!(sent.is_err(), "a socket holds less");
    rig.lost("it did not get on for 50ms");
}

#[test]
fn a_process_that_ends_is_lost() {
    let mut rig = rig(Duration::from_secs(60));
    rig.link.send(&Arc::default(), &message(), None).expect("sends");
    let (_, gone) = socket::pair().expect("a pair");
    rig.far = gone;
    assert!(rig.link.settle().is_err());
    rig.lost("its process has ended");
}

#[test]
fn no_more_messages_are_ahead_than_may_be() {
    let mut rig = rig(Duration::from_millis(50));
    for _ in 0..MOST_AHEAD {
        rig.link.send(&Arc::default(), &message(), None).expect("sends");
    }
    assert!(rig.link.send(&Arc::default(), &message(), None).is_err(), "it waits for an answer");
    rig.lost("it did not get on for 50ms");
}

#[test]
fn an_error_of_an_operator_that_was_not_asked_for_ends_the_process() {
    let Rig { link, peer, far, mut child } = rig(Duration::from_secs(60));
    let (control, _) = socket::pair().expect("a pair");
    let ready = Ready { confinement: vec![] };
    let connection = Arc::new(Connection::new(peer, ready, vec![link], control));
    let answering = thread::spawn(move || {
        let fault = Fault::Index { operator: "gather".to_owned(), index: 0, size: 0 };
        let mut buffer = vec![0; MAX_MESSAGE];
        // The session's beginning, and that it is to be finished.
        for fault in [None, Some(fault)] {
            socket::receive_bytes(&far, &mut buffer).expect("a request");
            socket::send(&far, &Reply { fault, ..reply() }, None).expect("sends");
        }
    });
    let mut lane = RemoteLane::new(connection, 0, 1 << 20);
    let reason = "it failed at what it was not asked: try again".to_owned();
    assert_eq!(lane.finish(), Err(LaneError::Lost { reason: reason.clone() }));
    assert_eq!(lane.finish(), Err(LaneError::Lost { reason }));
    answering.join().expect("no panic");
    assert!(!child.wait().expect("it has ended").success());
}

/// The process's end of a link, in a thread of this one.
fn computer() -> (OwnedFd, JoinHandle<std::io::Result<()>>) {
    let (near, far) = socket::pair().expect("a pair");
    let device: Arc<dyn Device> =
        Arc::new(CpuDevice::new(std::num::NonZeroUsize::MIN).expect("threads"));
    let computer = Computer::new(0, far, device, Arc::new(Mutex::new(0)));
    (near, thread::spawn(move || computer.serve()))
}

#[test]
fn what_is_too_long_for_a_message_goes_elsewhere() {
    let (near, serving) = computer();
    let sleeping = Program::new("sleep").arg("1000").stdin(Stdio::null()).spawn();
    let mut child = sleeping.expect("sleeps");
    let process = Arc::new(Process::of(child.id()).expect("is a child"));
    let peer = Arc::new(Peer::new(process, Duration::from_secs(60)));
    let link = Link::new(near, peer.clone()).expect("a link");
    let (control, _) = socket::pair().expect("a pair");
    let connection =
        Arc::new(Connection::new(peer, Ready { confinement: vec![] }, vec![link], control));
    let mut lane = RemoteLane::new(connection, 0, 1 << 20);
    let description = Description::new(Dtype::Uint8, Shape::new(&[4]).expect("a shape"));
    let mut ledger = Ledger::new(SessionLimits::of_bytes(1 << 20));
    let (buffer, tensor) = ledger.upload(description, &[1, 2, 3, 4]).expect("room");
    lane.write(buffer, &[1, 2, 3, 4]).expect("it is asked for");
    let x = ledger.operand(tensor).expect("a tensor");
    assert_eq!(lane.read(&x), Ok(vec![1, 2, 3, 4]));
    // Once is enough, and more has no effect.
    (0..MAX_MESSAGE).for_each(|_| lane.free(buffer));
    assert_eq!(lane.finish(), Ok(()));
    drop(lane);
    child.kill().expect("it is there");
    child.wait().expect("it has ended");
    assert!(serving.join().expect("no panic").is_ok());
}

#[test]
fn what_no_server_sends_ends_the_process() {
    let encoded = |request: Request| postcard::to_stdvec(&request).expect("encodes");
    let open = || encoded(Request::Open { session: 1, budget_bytes: 0 });
    let messages = [
        vec![encoded(Request::Finish { session: 1 })],
        vec![encoded(Request::Close { session: 1 })],
        vec![encoded(Request::Region)],
        vec![vec![0xff; 9]],
        vec![open(), [encoded(Request::Do { session: 1 }), vec![0xff]].concat()],
        vec![open(), [encoded(Request::Do { session: 2 }), vec![2, 1]].concat()],
    ];
    for messages in messages {
        let (near, serving) = computer();
        for message in &messages {
            socket::send_bytes(&near, message, None).expect("sends");
        }
        let served = serving.join().expect("no panic");
        assert!(served.is_err(), "{messages:?}");
    }
}
