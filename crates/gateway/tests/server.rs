//! The gateway with real sockets, on loopback addresses of its own.

use plum_gateway::core::{ANNOUNCEMENTS, PinholeKey, Reply, SSDP_GROUP, Times, Transport, WrongSource};
use plum_gateway::server::{Config, Server, unique_loopback};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// Longer than anything here takes, so that a failure is a failure and not a hang.
const PATIENCE: Duration = Duration::from_secs(10);
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn start() -> Server {
    Server::start_on_own_address(|_| {}).expect("a gateway on loopback")
}

/// A UDP socket that is connected to the gateway's PCP port.
fn connect(server: &Server) -> UdpSocket {
    let socket = UdpSocket::bind((LOCALHOST, 0)).expect("a socket");
    socket.connect(server.pcp_address()).expect("a route");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

fn ask(socket: &UdpSocket, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut buffer = [0; 2000];
    socket.send(request)?;
    let length = socket.recv(&mut buffer)?;
    Ok(buffer[..length].to_vec())
}

/// NAT-PMP request to map a port of 127.0.0.1; the external port assigned.
fn map(server: &Server, transport: Transport, internal_port: u16, lifetime: u32) -> u16 {
    let opcode = if transport == Transport::Udp { 1 } else { 2 };
    let mut request = vec![0, opcode, 0, 0];
    request.extend(internal_port.to_be_bytes());
    request.extend(internal_port.to_be_bytes());
    request.extend(lifetime.to_be_bytes());
    let reply = ask(&connect(server), &request).expect("an answer");
    assert_eq!((reply.len(), &reply[1..4]), (16, &[opcode | 128, 0, 0][..]));
    u16::from_be_bytes([reply[10], reply[11]])
}

fn outside(server: &Server, port: u16) -> SocketAddr {
    SocketAddr::new(server.forward_address().expect("it forwards"), port)
}

fn http(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.http_address()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("a write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

const GET: &str = "GET /rootDesc.xml HTTP/1.1\r\nHost: gateway\r\n\r\n";

#[test]
fn answers_udp_and_http_on_its_own_address() {
    let server = start();
    assert_eq!(ask(&connect(&server), &[0, 0]).expect("an answer")[8..], [203, 0, 113, 7]);
    let answer = http(&server, GET);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("</root>\r\n"), "{answer}");
    let counts = server.with_core(|core| core.counts.clone());
    assert_eq!((counts.natpmp_address, counts.http_description, counts.total()), (1, 1, 2));
}

#[test]
fn search_is_answered_with_a_location_that_can_be_fetched() {
    let server = start();
    let socket = UdpSocket::bind((LOCALHOST, 0)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let search = b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
        ST: upnp:rootdevice\r\n\r\n";
    socket.send_to(search, (server.address(), 1900)).expect("sent");
    let mut buffer = [0; 2000];
    let (length, from) = socket.recv_from(&mut buffer).expect("an answer");
    assert_eq!(from, SocketAddr::new(server.address(), 1900));
    let text = String::from_utf8_lossy(&buffer[..length]);
    assert!(
        text.contains(&format!("\r\nLOCATION: http://{}/rootDesc.xml\r\n", server.http_address())),
        "{text}"
    );
}

#[test]
fn several_gateways_run_at_once() {
    let servers: Vec<Server> = (0..5).map(|_| start()).collect();
    for (n, server) in servers.iter().enumerate() {
        server.with_core(|core| core.set_external_address(Ipv4Addr::new(198, 51, 100, n as u8), false));
    }
    for (n, server) in servers.iter().enumerate() {
        assert_eq!(ask(&connect(server), &[0, 0]).expect("an answer")[11], n as u8);
    }
}

#[test]
fn closed_ports_are_unreachable_until_they_are_opened_again() {
    let server = start();
    server.with_core(|core| {
        (core.faults.closed.pcp, core.faults.closed.natpmp, core.faults.closed.http) = (true, true, true);
    });
    let refused = ask(&connect(&server), &[0, 0]).expect_err("a closed port");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let refused = TcpStream::connect(server.http_address()).expect_err("a closed port");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    server.with_core(|core| core.faults = Default::default());
    assert!(ask(&connect(&server), &[0, 0]).is_ok());
    assert!(http(&server, GET).starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn delay_is_the_time_of_an_answer() {
    let server = start();
    server.with_core(|core| core.faults.delay = Duration::from_millis(50));
    let before = Instant::now();
    ask(&connect(&server), &[0, 0]).expect("an answer");
    assert!(before.elapsed() >= Duration::from_millis(50));
    let before = Instant::now();
    http(&server, GET);
    assert!(before.elapsed() >= Duration::from_millis(50));
}

#[test]
fn wrong_source_is_another_port_or_address() {
    let server = start();
    let socket = UdpSocket::bind((LOCALHOST, 0)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let source = |wrong| {
        server.with_core(|core| core.faults.wrong_source = Some(wrong));
        socket.send_to(&[0, 0], server.pcp_address()).expect("sent");
        socket.recv_from(&mut [0; 100]).expect("an answer").1
    };
    let from = source(WrongSource::Port);
    assert_eq!(from.ip(), server.address());
    assert_ne!(from.port(), 5351);
    let other = IpAddr::V4(unique_loopback());
    assert_eq!(source(WrongSource::Address(other)), SocketAddr::new(other, 5351));
}

#[test]
fn dribbled_answers_arrive_whole() {
    let server = start();
    server.with_core(|core| core.faults.http.dribble = Some((100, Duration::from_millis(1))));
    assert!(http(&server, GET).ends_with("</root>\r\n"));
}

#[test]
fn silent_http_keeps_the_connection_until_the_client_leaves() {
    let server = start();
    server.with_core(|core| core.faults.silence.http = Times::Always);
    let mut stream = TcpStream::connect(server.http_address()).expect("a connection");
    stream.write_all(GET.as_bytes()).expect("a write");
    assert!(server.wait_until(PATIENCE, |core| core.counts.http_description == 1));
    stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    assert_eq!(stream.read(&mut [0; 10]).expect_err("silence").kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_script_resets_a_connection() {
    let server = start();
    server.with_core(|core| core.add_script(|_| Reply::reset()));
    let mut stream = TcpStream::connect(server.http_address()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(GET.as_bytes()).expect("a write");
    let error = stream.read(&mut [0; 100]).expect_err("neither an answer nor an orderly end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn http_moves_to_another_port() {
    let server = start();
    let before = server.http_address();
    // Another port of the address that is the server's alone.
    let after = SocketAddr::new(before.ip(), if before.port() == 5000 { 5001 } else { 5000 });
    server.with_core(|core| core.set_http_port(after.port()));
    assert_eq!(TcpStream::connect(before).expect_err("closed").kind(), ErrorKind::ConnectionRefused);
    let mut stream = TcpStream::connect(after).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(GET.as_bytes()).expect("a write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[test]
fn restart_closes_connections_and_forgets() {
    let server = start();
    map(&server, Transport::Udp, 4000, 100);
    server.with_core(|core| core.faults.silence.http = Times::Always);
    let mut stream = TcpStream::connect(server.http_address()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(GET.as_bytes()).expect("a write");
    assert!(server.wait_until(PATIENCE, |core| core.counts.http_description == 1));
    server.with_core(|core| core.restart(false));
    assert_eq!(stream.read(&mut [0; 10]).expect("its end"), 0);
    assert!(server.with_core(|core| core.table().is_empty()));
}

#[test]
fn mapped_tcp_port_leads_inside_and_back_with_half_close() {
    let server = start();
    let inside = TcpListener::bind((LOCALHOST, 0)).expect("a listener");
    let port = map(&server, Transport::Tcp, inside.local_addr().expect("bound").port(), 100);
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = inside.accept().expect("a connection");
        let mut all = Vec::new();
        // The end comes through while the way back stays open.
        stream.read_to_end(&mut all).expect("all of it");
        stream.write_all(&all).expect("a write");
    });
    let mut stream = TcpStream::connect(outside(&server, port)).expect("a mapped port");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let sent: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    stream.write_all(&sent).expect("a write");
    stream.shutdown(Shutdown::Write).expect("half-closed");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("all of it");
    assert!(received == sent, "{} of {} octets came back, or others", received.len(), sent.len());
    echo.join().expect("the echo");
}

#[test]
fn connection_through_a_port_ends_with_its_mapping() {
    let server = start();
    let inside = TcpListener::bind((LOCALHOST, 0)).expect("a listener");
    let internal_port = inside.local_addr().expect("bound").port();
    let port = map(&server, Transport::Tcp, internal_port, 100);
    let mut stream = TcpStream::connect(outside(&server, port)).expect("a mapped port");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let (mut accepted, _) = inside.accept().expect("a connection");
    accepted.write_all(b"hello").expect("a write");
    stream.read_exact(&mut [0; 5]).expect("a greeting");
    map(&server, Transport::Tcp, internal_port, 0);
    match stream.read(&mut [0; 5]) {
        Ok(length) => assert_eq!(length, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    let refused = TcpStream::connect(outside(&server, port)).expect_err("no more");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn connection_to_a_port_that_nobody_listens_on_inside_is_closed() {
    let server = start();
    let free = TcpListener::bind((LOCALHOST, 0)).expect("a listener").local_addr().expect("bound").port();
    let port = map(&server, Transport::Tcp, free, 100);
    let mut stream = TcpStream::connect(outside(&server, port)).expect("a mapped port");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    match stream.read(&mut [0; 5]) {
        Ok(length) => assert_eq!(length, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn mapped_udp_port_leads_inside_and_answers_find_their_peer() {
    let server = start();
    let inside = UdpSocket::bind((LOCALHOST, 0)).expect("a socket");
    inside.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let port = map(&server, Transport::Udp, inside.local_addr().expect("bound").port(), 100);
    let peers: Vec<UdpSocket> = (0..70u8)
        .map(|n| {
            let peer = UdpSocket::bind((LOCALHOST, 0)).expect("a socket");
            peer.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            peer.connect(outside(&server, port)).expect("a route");
            peer.send(&[n]).expect("sent");
            let mut buffer = [0; 10];
            let (length, from) = inside.recv_from(&mut buffer).expect("forwarded");
            assert_eq!(buffer[..length], [n]);
            inside.send_to(&[n, n], from).expect("sent");
            peer
        })
        .collect();
    for (n, peer) in peers.iter().enumerate() {
        let mut buffer = [0; 10];
        let length = peer.recv(&mut buffer).expect("an answer");
        assert_eq!(buffer[..length], [n as u8, n as u8]);
    }
}

#[test]
fn mapping_that_expires_is_forwarded_no_more() {
    let server = start();
    server.with_core(|core| core.faults.lifetime = Some(1));
    let inside = TcpListener::bind((LOCALHOST, 0)).expect("a listener");
    let port = map(&server, Transport::Tcp, inside.local_addr().expect("bound").port(), 100);
    assert!(TcpStream::connect(outside(&server, port)).is_ok());
    assert!(server.wait_until(PATIENCE, |core| core.table().is_empty()));
    server.with_core(|_| {});
    let refused = TcpStream::connect(outside(&server, port)).expect_err("no more");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn announces_a_restart_and_answers_a_search_by_multicast_on_its_interface() {
    let server = Server::start_on_own_address(|config| config.multicast = true).expect("a gateway");
    let listener = {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("an option");
        socket.bind(&ANNOUNCEMENTS.into()).expect("bound");
        socket.join_multicast_v4(&Ipv4Addr::new(224, 0, 0, 1), &Ipv4Addr::LOCALHOST).expect("joined");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        UdpSocket::from(socket)
    };
    server.with_core(|core| core.restart(false));
    let mut versions = Vec::new();
    while versions.len() < 2 {
        let mut buffer = [0; 100];
        let (_, from) = listener.recv_from(&mut buffer).expect("an announcement");
        // Other tests may announce themselves at the same time.
        if from == server.pcp_address() {
            versions.push((buffer[0], buffer[1]));
        }
    }
    assert_eq!(versions, [(2, 128), (0, 128)]);
    let searcher = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).expect("a socket");
    searcher.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).expect("an option");
    searcher.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let searcher = UdpSocket::from(searcher);
    let search = b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
        ST: upnp:rootdevice\r\n\r\n";
    searcher.send_to(search, SSDP_GROUP).expect("sent");
    loop {
        let (_, from) = searcher.recv_from(&mut [0; 2000]).expect("an answer");
        if from == SocketAddr::new(server.address(), 1900) {
            break;
        }
    }
}

#[test]
fn stopped_gateway_leaves_its_ports_free() {
    let server = start();
    let (address, http) = (server.pcp_address(), server.http_address());
    server.stop();
    assert!(UdpSocket::bind(address).is_ok() && TcpListener::bind(http).is_ok());
}

#[test]
fn taken_port_is_an_error_that_names_it() {
    let server = start();
    let taken = Config::at(server.address());
    let error = Server::start(taken).err().expect("the port is taken");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&server.pcp_address().to_string()), "{error}");
}

#[test]
fn serves_pinholes_by_ipv6() {
    let address = Ipv6Addr::LOCALHOST;
    // No UDP ports: all tests of the machine share this one address.
    let ipv6 = plum_gateway::core::Config { pcp_port: 0, ssdp_port: 0, ..Config::at(address).gateway };
    let config = Config { gateway: ipv6.with_ipv6(address), ..Config::at(address) };
    let server = match Server::start(config) {
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
            return writeln!(std::io::stderr(), "not tested: this machine has no IPv6").expect("a write");
        }
        result => result.expect("a gateway on the IPv6 loopback address"),
    };
    let service = "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1";
    let body = format!(
        "<s:Envelope><s:Body><u:AddPinhole xmlns:u=\"{service}\"><RemoteHost></RemoteHost>\
         <RemotePort>0</RemotePort><InternalClient>{address}</InternalClient><InternalPort>8000</InternalPort>\
         <Protocol>17</Protocol><LeaseTime>60</LeaseTime></u:AddPinhole></s:Body></s:Envelope>"
    );
    let answer = http(
        &server,
        &format!(
            "POST /ctl/1 HTTP/1.1\r\nHost: gateway\r\nSOAPAction: \"{service}#AddPinhole\"\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    assert!(answer.contains("<UniqueID>1</UniqueID>"), "{answer}");
    let key = PinholeKey::for_all(Transport::Udp, address, 8000);
    assert!(server.with_core(|core| core.pinholes().get(&key).is_some()));
}
