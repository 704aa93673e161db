//! A name server for the tests (RFC 1035): answers each name with what is prepared for it, another
//! address each time it is asked. Knows questions for addresses, and nothing else.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Bytes of a message before its question.
const HEADER: usize = 12;
const ADDRESS_V4: u16 = 1;
const ADDRESS_V6: u16 = 28;

/// A name with its answers: each is a set of addresses, and the last one stays.
type Answers = (&'static str, Vec<Vec<IpAddr>>);

/// A running name server; its thread ends with the test's process.
pub(crate) struct Resolver {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Resolver {
    /// Serves these names on a free port.
    pub(crate) fn start(names: Vec<Answers>) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = socket.local_addr().expect("an address");
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let mut names: HashMap<_, _> =
            names.into_iter().map(|(name, answers)| (name.to_owned(), (0, answers))).collect();
        std::thread::spawn(move || {
            let mut message = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut message) {
                if let Some(answer) = answer(&message[..length], &mut names) {
                    count.fetch_add(1, Ordering::SeqCst);
                    // A client that has left needs no answer.
                    let _ = socket.send_to(&answer, client);
                }
            }
        });
        Self { address, asked }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Questions that were answered.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// The answer to a message; none to what is no question.
fn answer(
    message: &[u8],
    names: &mut HashMap<String, (usize, Vec<Vec<IpAddr>>)>,
) -> Option<Vec<u8>> {
    let question = message.get(HEADER..)?;
    let (name, name_length) = read_name(question)?;
    let kind = u16::from_be_bytes(question.get(name_length..name_length + 2)?.try_into().ok()?);
    let end = HEADER + name_length + 4;
    let known = names.get_mut(&name);
    let found: Vec<IpAddr> = match known {
        Some((turn, answers)) => {
            let wanted = |address: &IpAddr| match kind {
                ADDRESS_V4 => address.is_ipv4(),
                ADDRESS_V6 => address.is_ipv6(),
                _ => false,
            };
            let set = answers.get(*turn).or(answers.last())?;
            let found: Vec<_> = set.iter().copied().filter(wanted).collect();
            // Only a question that was answered moves on: clients ask for both kinds.
            *turn += usize::from(!found.is_empty());
            found
        }
        None => Vec::new(),
    };
    let mut reply = message.get(..end)?.to_vec();
    // A response, recursion available; of a name that doesn't exist if it is not known.
    reply[2] |= 0x80;
    reply[3] = 0x80 | if names.contains_key(&name) { 0 } else { 3 };
    reply[6..8].copy_from_slice(&u16::try_from(found.len()).ok()?.to_be_bytes());
    reply[8..HEADER].fill(0);
    for address in found {
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        // The name of the question, the kind, class IN, and a lifetime of no seconds.
        reply.extend_from_slice(&[0xc0, HEADER as u8]);
        reply.extend_from_slice(&kind.to_be_bytes());
        reply.extend_from_slice(&[0, 1, 0, 0, 0, 0]);
        reply.extend_from_slice(&u16::try_from(bytes.len()).ok()?.to_be_bytes());
        reply.extend_from_slice(&bytes);
    }
    Some(reply)
}

/// A name in lower case, and the bytes that it takes.
fn read_name(question: &[u8]) -> Option<(String, usize)> {
    let (mut name, mut at) = (Vec::new(), 0);
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            let name = String::from_utf8(name.join(&b'.')).ok()?;
            return Some((name.to_ascii_lowercase(), at));
        }
        name.push(question.get(at..at + length)?.to_vec());
        at += length;
    }
}

#[test]
fn a_name_gets_its_answers_in_turn() {
    let (outside, inside): (IpAddr, IpAddr) =
        ("192.0.2.1".parse().expect("one"), "127.0.0.1".parse().expect("one"));
    let answers = vec![vec![outside], vec![inside]];
    let mut names = HashMap::from([("a.test".to_owned(), (0, answers))]);
    let mut question = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    question.extend_from_slice(b"\x01A\x04test\0\0\x01\0\x01");
    for last in [[192, 0, 2, 1], [127, 0, 0, 1], [127, 0, 0, 1]] {
        let reply = answer(&question, &mut names).expect("an answer");
        assert_eq!((&reply[..2], reply[3], reply[7]), (&[7, 7][..], 0x80, 1));
        assert_eq!(reply[reply.len() - 4..], last);
    }
    let unknown = answer(&question, &mut HashMap::new()).expect("an answer");
    assert_eq!((unknown[3], unknown[7]), (0x83, 0));
}
