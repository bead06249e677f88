use super::*;

fn leaves(text: &str) -> Vec<(&str, String)> {
    Tags::new(text)
        .filter_map(|tag| match tag {
            Tag::Leaf(name, value) => Some((name, value)),
            _ => None,
        })
        .collect()
}

#[track_caller]
fn check(text: &str, expected: &[(&str, &str)]) {
    let found = leaves(text);
    let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn tags_come_in_order() {
    let tags: Vec<Tag<'_>> = Tags::new("<?xml version=\"1.0\"?><a x='1'><p:b> 1 </p:b><c/></a>").collect();
    let expected = [
        Tag::Open("a"),
        Tag::Open("b"),
        Tag::Leaf("b", "1".into()),
        Tag::Leaf("c", "".into()),
        Tag::Close("a"),
    ];
    assert_eq!(tags, expected);
}

#[test]
fn text_is_resolved_trimmed_and_cleaned() {
    check("<a>\n &lt;b&gt; &amp;&apos;&quot; &#65;&#x42; \r\n</a>", &[("a", "<b> &'\" AB")]);
    check("<a><![CDATA[/ctl?a=1&b=2]]></a>", &[("a", "/ctl?a=1&b=2")]);
    check("<a>one<!-- <b>no</b> --> two</a>", &[("a", "one two")]);
    check("<a>x&#10;Host: evil&#0;&#x1b;</a>", &[("a", "x Host: evil&#0;".replace("&#0;", "").as_str())]);
}

#[test]
fn unknown_entities_and_stray_ampersands_stay_as_they_are() {
    check("<a>R&N:DGND&nbsp;3700 & more</a>", &[("a", "R&N:DGND&nbsp;3700 & more")]);
    check("<a>&#xD800;&#99999999999;&;&</a>", &[("a", "&#xD800;&#99999999999;&;&")]);
}

#[test]
fn entities_of_the_document_are_not_expanded() {
    let bomb = "<!DOCTYPE r [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;\"><!ENTITY c SYSTEM \"file:///etc/passwd\">]>\
                <r><x>&b;</x><y>&c;</y></r>";
    check(bomb, &[("x", "&b;"), ("y", "&c;")]);
}

#[test]
fn byte_order_mark_and_junk_around_the_document_do_not_matter() {
    check("\u{feff}<?xml version='1.0'?><r><a>1</a></r>", &[("a", "1")]);
    check("\n  <?xml version='1.0'?>\n<?xml version='1.0'?><r><a>1</a></r>\u{fffd}`(", &[("a", "1")]);
    check("eList><r><a>1</a></r>", &[("a", "1")]);
}

#[test]
fn end_tags_may_be_misspelt_missing_or_too_many() {
    check("<r><a>1</b><c>2</c></x></y></z></z><d>3</d>", &[("a", "1"), ("c", "2"), ("d", "3")]);
    check("<r><a>1</a><b>2</b><c>3", &[("a", "1"), ("b", "2")]);
    check("<r><a>1</a\n></r", &[("a", "1")]);
}

#[test]
fn broken_tags_cost_only_themselves() {
    check("<r><a>1</a <b>2</b></r>", &[("a", "1"), ("b", "2")]);
    check("<<<<r x=\"1><a y=\"2\">1</a><b>2</b>", &[("a", "1"), ("b", "2")]);
    check("<r x='never closed><a>1</a><b>2</b></r>", &[("a", "1"), ("b", "2")]);
    check("<!-- never closed <a>1</a>", &[("a", "1")]);
    check("<? never closed <a>1</a>", &[("a", "1")]);
    check("<![CDATA[ never closed <a>1</a>", &[("a", "1")]);
    check("<r><a>1<?x </a><b>2</b></r>", &[("a", "1"), ("b", "2")]);
    check("<r><a </a><b>2</b></r>", &[("a", ""), ("b", "2")]);
    check("<!><a>1</a>", &[("a", "1")]);
    check("<!--><a>1</a>", &[("a", "1")]);
    check("<!DOCTYPE><a>1</a>", &[("a", "1")]);
}

#[test]
fn text_of_an_element_is_limited() {
    let long = format!("<a>{}ü{}</a><b>1</b>", "x".repeat(MAX_TEXT_BYTES - 1), "y".repeat(100));
    let found = leaves(&long);
    // A character that does not fit is left out whole.
    assert_eq!(found[0].1, "x".repeat(MAX_TEXT_BYTES - 1));
    assert_eq!(found[1], ("b", "1".to_owned()));
    // It may come in pieces.
    let pieces = format!("<a>{}&amp;{}</a>", "x".repeat(3000), "y".repeat(3000));
    assert_eq!(leaves(&pieces)[0].1, format!("{}&{}", "x".repeat(3000), "y".repeat(MAX_TEXT_BYTES - 3001)));
    // No more is collected before it is cut: without an end tag the text collected is still there.
    let mut tags = Tags::new(pieces.trim_end_matches("</a>"));
    assert_eq!(tags.by_ref().count(), 1);
    assert_eq!(tags.leaf.unwrap().1.len(), MAX_TEXT_BYTES);
}

#[test]
fn text_before_the_first_tag_is_no_name() {
    check(&format!("{}<a>1</a>", "x".repeat(MAX_NAME_BYTES + 1)), &[("a", "1")]);
}

#[test]
fn hostile_documents_end_soon() {
    // Each is the worst for something: depth, tags, quotes that never close, references, restarts.
    for piece in
        ["<a>", "<a/>", "</a>", "<\"", "<a '", "<", "&", "&a", "&#", "<!--", "<![CDATA[", "<?", "<!DOCTYPE ["]
    {
        let document = piece.repeat((1 << 18) / piece.len());
        let tags = Tags::new(&document).count();
        assert!(tags <= document.len());
    }
}

#[test]
fn names_of_open_elements_are_not_remembered() {
    // More than the limit on either, with text where another reader goes on.
    let deep = "<a>x".repeat(5000);
    check(&format!("{deep}<b>t</b>"), &[("b", "t")]);
    let long = format!("<{}>\u{feff}x", "n".repeat(4000)).repeat(50);
    check(&format!("{long}<b>t</b>"), &[("b", "t")]);
    let mut tags = Tags::new(&deep);
    while tags.next().is_some() {
        assert!(tags.opened <= MAX_OPENED && tags.names <= MAX_NAMES_BYTES + 4096);
    }
    // The text behind the tag with which it goes on is that tag's.
    let leaves = leaves_of(&"<c>text</c>".repeat(3 * MAX_OPENED));
    assert!(leaves.len() == 3 * MAX_OPENED && leaves.iter().all(|leaf| leaf == "text"), "{}", leaves.len());
}

fn leaves_of(text: &str) -> Vec<String> {
    leaves(text).into_iter().map(|(_, value)| value).collect()
}

#[test]
fn a_document_is_read_up_to_a_name_that_is_too_long() {
    for (length, is_read) in [(MAX_NAME_BYTES - 1, true), (MAX_NAME_BYTES + 1, false), (1 << 20, false)] {
        for tag in ["", "/"] {
            let name = "n".repeat(length);
            let last: &[_] = if is_read { &[("a", "1"), ("b", "2")] } else { &[("a", "1")] };
            let found = format!("<r><a>1</a><{tag}{name} x='1'><b>2</b></r>");
            let found = leaves(&found);
            let found: Vec<_> = found.iter().map(|(name, value)| (*name, value.as_str())).collect();
            assert_eq!(found, last, "{length}");
        }
    }
    // Comments and the like have no names.
    check(&format!("<r><!--{0}--><![CDATA[{0}]]><a>1</a></r>", "n".repeat(10_000)), &[("a", "1")]);
}
