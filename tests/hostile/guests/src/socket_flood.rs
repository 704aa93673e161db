//! Opens sockets without end, and reports how it went; each would cost the host a file descriptor.

use wasip2::{
    clocks::monotonic_clock,
    http::types::{IncomingRequest, ResponseOutparam},
    sockets::{
        instance_network::instance_network, ip_name_lookup, network::IpAddressFamily,
        tcp_create_socket::create_tcp_socket, udp_create_socket::create_udp_socket,
    },
};

fn run(_request: IncomingRequest, out: ResponseOutparam) {
    let mut sockets = Vec::new();
    let tcp = loop {
        match create_tcp_socket(IpAddressFamily::Ipv4) {
            Ok(socket) if sockets.len() < 1000 => sockets.push(socket),
            Ok(_) => break format!("{} opened", sockets.len()),
            Err(error) => break format!("{error:?}"),
        }
    };
    let udp = create_udp_socket(IpAddressFamily::Ipv6).map(drop);
    let lookup = match ip_name_lookup::resolve_addresses(&instance_network(), "localhost") {
        Ok(stream) => {
            stream.subscribe().block();
            stream.resolve_next_address().map(|address| address.is_some())
        }
        Err(error) => Err(error),
    };
    // Long enough for others to feel it.
    monotonic_clock::subscribe_duration(50_000_000).block();
    hostile_guests::respond(out, &format!("tcp {tcp}\nudp {udp:?}\nlookup {lookup:?}\n"));
}

hostile_guests::hostile!(run);
