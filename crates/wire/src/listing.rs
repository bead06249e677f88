//! The list of entries that GetListOfPortMappings returns (WANIPConnection:2 §2.5.21): XML in a text of a SOAP reply.

#![forbid(unsafe_code)]
use super::xml::{Tag, Tags};
use super::{Malformed, lossy_text};
use quick_xml::escape::unescape;

/// Values kept of one entry, at most: the standard has eight.
const MAX_VALUES: usize = 16;

/// The names and values of an entry, in order, trimmed and free of control characters.
pub type Entry = Vec<(String, String)>;

/// Reads the entries of a reply. A list that is cut off is `Malformed`: it would look complete.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry>, Malformed> {
    const NAME: &str = "NewPortListing";
    let text = lossy_text(bytes)?;
    let (_, rest) = text.split_once(NAME).ok_or(Malformed)?;
    let (_, rest) = rest.split_once('>').ok_or(Malformed)?;
    let (content, _) = rest.rsplit_once(NAME).ok_or(Malformed)?;
    let (content, _) = content.rsplit_once("</").ok_or(Malformed)?;
    let content = content.trim();
    // Some gateways escape the list, some wrap it.
    let wrapped = content.strip_prefix("<![CDATA[").map(|inner| inner.strip_suffix("]]>").unwrap_or(inner));
    match wrapped {
        Some(inner) => Ok(entries(inner)),
        None if content.starts_with('<') => Ok(entries(content)),
        None => unescape(content).map(|inner| entries(&inner)).map_err(|_| Malformed),
    }
}

fn entries(text: &str) -> Vec<Entry> {
    const NAME: &str = "PortMappingEntry";
    let (mut entries, mut entry) = (Vec::new(), None);
    for tag in Tags::new(text) {
        match (tag, &mut entry) {
            (Tag::Open(NAME), _) => entry = Some(Entry::new()),
            (Tag::Close(NAME), Some(_)) => entries.extend(entry.take()),
            (Tag::Leaf(name, value), Some(values)) if values.len() < MAX_VALUES => {
                values.push((name.to_owned(), value));
            }
            _ => {}
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use quick_xml::escape::escape;

    const LIST: &str = "<?xml version=\"1.0\"?><p:PortMappingList xmlns:p=\"urn:schemas-upnp-org:gw:WANIPConnection\">\
        <p:PortMappingEntry><p:NewRemoteHost></p:NewRemoteHost><p:NewExternalPort>8080</p:NewExternalPort>\
        <p:NewDescription>a &amp; b</p:NewDescription></p:PortMappingEntry>\
        <p:PortMappingEntry><p:NewExternalPort>8081</p:NewExternalPort></p:PortMappingEntry></p:PortMappingList>";

    fn reply(listing: &str) -> String {
        format!(
            "<s:Envelope><s:Body><u:GetListOfPortMappingsResponse><NewPortListing>{listing}</NewPortListing>\
             </u:GetListOfPortMappingsResponse></s:Body></s:Envelope>"
        )
    }

    #[test]
    fn a_list_is_read_escaped_wrapped_and_bare() {
        let (escaped, wrapped) = (escape(LIST).into_owned(), format!("<![CDATA[{LIST}]]>"));
        for listing in [escaped.as_str(), &wrapped, LIST] {
            let entries = parse(reply(listing).as_bytes()).unwrap();
            let value = |index: usize, name| super::super::soap::get(&entries[index], name);
            assert_eq!(entries.len(), 2, "{listing}");
            assert_eq!((value(0, "NewExternalPort"), value(0, "NewRemoteHost")), (Some("8080"), Some("")));
            assert_eq!(
                (value(0, "NewDescription"), value(1, "NewExternalPort")),
                (Some("a & b"), Some("8081"))
            );
        }
    }

    #[test]
    fn a_list_of_nothing_is_empty_and_one_that_is_cut_off_is_none() {
        assert_eq!(parse(reply("").as_bytes()), Ok(Vec::new()));
        let text = reply(&format!("<![CDATA[{LIST}]]>"));
        let end = text.find("</NewPortListing").unwrap() + 2;
        for cut in 0..end {
            assert_eq!(parse(&text.as_bytes()[..cut]), Err(Malformed), "{cut}");
        }
        assert_eq!(parse(reply("&unknown;").as_bytes()), Err(Malformed));
        assert_eq!(parse(b"<NewPortListing>a/NewPortListing>"), Err(Malformed));
    }

    #[test]
    fn an_entry_of_many_values_is_bounded() {
        let many = "<a>1</a>".repeat(100);
        let entries =
            parse(reply(&format!("<x:PortMappingEntry>{many}</x:PortMappingEntry>")).as_bytes()).unwrap();
        assert_eq!((entries.len(), entries[0].len()), (1, MAX_VALUES));
    }
}
