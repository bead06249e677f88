use super::*;
use crate::failures::MappingFailure;
use crate::spec::{Family, Port};
use plum::{External, Obstacle, Renewal, Transport};
use std::net::Ipv6Addr;

fn row(status: Status, secs: u64) -> Row {
    let renewal = Renewal::new(Some(Duration::from_secs(secs)), Some(Duration::from_secs(secs + 1)));
    let family = Family::Ipv4;
    let port = Port { family, ..Port::new(Transport::Tcp, 8080) };
    Row { status, renewal: Some(renewal), ..Row::new(port) }
}

fn mapped_at(address: &str) -> Status {
    Status::Mapped(External::new(address.parse().expect("an address"), Protocol::Pcp))
}

fn mapped() -> Status {
    mapped_at("203.0.113.7:8080")
}

fn failed() -> Status {
    Status::Failed(MappingFailure::of(Some(&Obstacle::NoAnswer { gateway: "192.168.1.1".parse().ok() })))
}

fn texts(rows: &[Row], width: usize, height: usize) -> Vec<String> {
    lines(rows, End::ByCtrlC, width, height).into_iter().map(|(_, text)| text).collect()
}

#[test]
fn shows_state_external_address_protocol_and_time_to_renewal() {
    assert_eq!(
        texts(&[row(mapped(), 3725), row(Status::Pending, 0), row(Status::Lost, 0)], 80, 24),
        [
            "PORT        STATE    EXTERNAL              BY       RENEWS IN",
            "8080/tcp    mapped   203.0.113.7:8080      PCP      1 h 02 min",
            "8080/tcp    pending",
            "8080/tcp    lost, is being made again",
            "Ctrl-C removes them.",
        ]
    );
}

#[test]
fn the_longest_external_address_has_room() {
    let mut pinhole = row(mapped(), 3725);
    pinhole.port.family = Family::Ipv6(Ipv6Addr::UNSPECIFIED);
    let mut other = pinhole.clone();
    other.status = Status::Failed(MappingFailure::of(None));
    let address = "[2600:1:2:3:4:5:6:7]:8080".parse().expect("an address");
    pinhole.status = Status::Mapped(External::new(address, Protocol::UpnpIgd));
    assert_eq!(
        texts(&[row(mapped(), 3725), pinhole, other], 80, 24)[..4],
        [
            "PORT        STATE    EXTERNAL                  BY       RENEWS IN",
            "8080/tcp    mapped   203.0.113.7:8080          PCP      1 h 02 min",
            "8080/tcp    mapped   [2600:1:2:3:4:5:6:7]:8080 UPnP-IGD 1 h 02 min",
            "8080/tcp    failed   by IPv6: the port cannot be mapped for now",
        ]
    );
}

#[test]
fn the_next_try_is_told_and_what_is_cut_has_an_ellipsis() {
    let mut row = row(failed(), 0);
    row.next_try = Some(Duration::from_secs(65));
    assert_eq!(
        texts(&[row.clone()], 90, 24)[1],
        "8080/tcp    failed   the gateway 192.168.1.1 does not answer, next try in 1 min 05 s"
    );
    assert_eq!(
        texts(&[row], 60, 24)[1..4],
        [
            "8080/tcp    failed   the gateway..., next try in 1 min 05 s",
            "8080/tcp: the gateway 192.168.1.1 does not answer: switch",
            "on UPnP, NAT-PMP or PCP in its settings.",
        ]
    );
}

#[test]
fn a_sentence_stands_once_with_the_rows_that_it_is_about() {
    let shared = [row(failed(), 0), row(mapped_at("100.64.1.2:9000"), 1), row(failed(), 0)];
    let notes = notes(&shared, 500);
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(
        notes[0].starts_with("8080/tcp and 1 more: the gateway 192.168.1.1 does not answer"),
        "{notes:?}"
    );
    assert!(notes[1].starts_with("8080/tcp: 100.64.1.2 belongs to the provider's"), "{notes:?}");
    assert_eq!(notes[2], "8080/tcp: the external port is 9000, because 8080 was not to be had.");
    assert!(super::notes(&shared[..1], 500)[0].starts_with("8080/tcp: "));
    assert!(super::notes(&[row(failed(), 0), row(failed(), 0)], 500)[0].starts_with("All: "));
}

#[test]
fn the_time_that_is_left_is_rounded_up() {
    let last = |left| lines(&[row(mapped(), 1)], End::In(left), 80, 24).pop().expect("the foot").1;
    assert_eq!(last(Duration::from_millis(999)), "They are removed in 1 s, or by Ctrl-C.");
    assert_eq!(last(Duration::from_secs(60)), "They are removed in 1 min 00 s, or by Ctrl-C.");
    assert_eq!(last(Duration::ZERO), "They are removed in 0 s, or by Ctrl-C.");
}

#[test]
fn no_line_is_as_long_as_the_terminal_is_wide() {
    let rows = [row(failed(), 0), row(mapped(), 61), row(mapped_at("10.1.2.3:80"), 61)];
    for width in 1..100 {
        assert!(texts(&rows, width, 24).iter().all(|line| line.chars().count() < width), "{width}");
    }
}

#[test]
fn no_frame_is_as_high_as_the_terminal() {
    for status in [mapped(), mapped_at("10.1.2.3:80"), failed()] {
        let rows = vec![row(status, 1); 100];
        for (count, height) in
            (0..=100).step_by(5).flat_map(|count| (5..40).map(move |height| (count, height)))
        {
            assert!(texts(&rows[..count], 80, height).len() < height, "{count} {height}");
        }
    }
    let rows = vec![row(mapped(), 1); 100];
    assert_eq!(texts(&rows, 80, 24)[21], "... and 80 more, 80 of them mapped");
    assert_eq!(texts(&rows[..21], 80, 24).len(), 23, "as many as there is room for are all shown");
}

#[test]
fn lines_that_a_narrower_terminal_breaks_count_as_often() {
    assert_eq!(height(&[0, 10, 79, 80], 80), 4);
    assert_eq!(height(&[0, 10, 79, 80], 40), 1 + 1 + 2 + 2);
    assert_eq!(height(&[79], 0), 79);
    assert_eq!(height(&[79, 20], usize::MAX), 2);
}
