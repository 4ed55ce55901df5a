use super::*;

fn shown(text: &str) -> String {
    match parse(text) {
        Ok((value, _)) => value.to_string(),
        Err(what) => format!("error: {what}"),
    }
}

#[test]
fn values_are_read_as_cloud_init_reads_them() {
    for (text, wanted) in [
        ("", ""),
        ("a: [x, 'y', \"z\"]\n", r#"#{"a": ["x", "y", "z"]}"#),
        ("a:\n- x\n- y: ~\n", r#"#{"a": ["x", #{"y": ()}]}"#),
        ("a: 1\na: 2\n", r#"#{"a": 2}"#),
        ("a: yes\nb: 'yes'\nc: 010\n", r#"#{"a": true, "b": "yes", "c": 8}"#),
        ("x: &x {p: 1, q: 2}\ny: {<<: *x, q: 3}\n", r#"#{"x": #{"p": 1, "q": 2}, "y": #{"p": 1, "q": 3}}"#),
        ("<<: [{a: 1}, {a: 2, b: 3}]\n", r#"#{"a": 1, "b": 3}"#),
        ("<<: {a: 1}\n<<: {a: 2}\n", r#"#{"a": 2}"#),
        ("a: &a {<<: *a, b: 1}\n", r#"#{"a": #{"b": 1}}"#),
        ("<<: !foo {a: 1}\n'<<': 2\n", r#"#{"<<": 2, "a": 1}"#),
        ("a: \"x\ty\" #\tno\nb: |\n  o\tne\n", "#{\"a\": \"x\\ty\", \"b\": \"o\\tne\\n\"}"),
        ("a: |\n  one\n  two\n", r#"#{"a": "one\ntwo\n"}"#),
        ("a: >-\n  one\n  two\n\n   three\n  four\n\n", r#"#{"a": "one two\n\n three\nfour"}"#),
        ("a: |2+\n   one\n\n", r#"#{"a": " one\n\n"}"#),
        ("# c\u{85}a: 1\u{2028}b: 2\rc: 3\r\nd: 4\n", r#"#{"a": 1, "b": 2, "c": 3, "d": 4}"#),
        ("a: !\nb: ! 12\nc: &c [*c]\n", r#"#{"a": (), "b": 12, "c": [()]}"#),
        (
            "a: 2024-02-29\nb: 2026-02-28 10:00:00\nc: 2026-1x-30\nd: 2026-13-45 build\n",
            r#"#{"a": "2024-02-29", "b": "2026-02-28 10:00:00", "c": "2026-1x-30", "d": "2026-13-45 build"}"#,
        ),
        ("a: !!int 1_000\nb: !!int \"5\"\nc: |\n  %YAML 2\n", "#{\"a\": 1000, \"b\": 5, \"c\": \"%YAML 2\\n\"}"),
        ("a: [1_0, 0b1_1, -0x_1F, 1:30, 0_, +7, 08, 0o7]\n", r#"#{"a": [10, 3, -31, 90, 0, 7, "08", "0o7"]}"#),
        ("a: [99999999999999999999, 1.5, .inf]\n", r#"#{"a": ["99999999999999999999", "1.5", ".inf"]}"#),
        ("a: !!omap [b: 1]\nc: !!set {d, e: 1}\n", r#"#{"a": [["b", 1]], "c": #{"d": (), "e": ()}}"#),
        ("a: !!str {=: b}\nc: {=: d}\n", r#"#{"a": "b", "c": #{"=": "d"}}"#),
        ("%TAG !e! tag:yaml.org,2002:\n---\na: !e!str 1\n...\n...\n", r#"#{"a": "1"}"#),
        ("a: [b#c, d]#e\n", r#"#{"a": ["b#c", "d"]}"#),
        ("{a: b: c}", "error: line 1: ',' or '}' must stand here"),
    ] {
        assert_eq!(shown(text), wanted, "{text}");
    }
}

#[test]
fn what_only_pyyaml_reads_is_read() {
    for (text, wanted) in [
        ("a: [\nEc2,\n]\n", r#"#{"a": ["Ec2"]}"#),
        ("x: {\na: 1\n}\n", r#"#{"x": #{"a": 1}}"#),
        ("x:\n  y: {\n  a: 1\n  }\n", r#"#{"x": #{"y": #{"a": 1}}}"#),
        ("motd: \"a\nb\"\n", r#"#{"motd": "a b"}"#),
        ("a: 'b\n\n c'\n", r#"#{"a": "b\nc"}"#),
        ("a: !!python/unicode b\n", r#"#{"a": "b"}"#),
        ("a: !<tag:yaml.org,2002:str> 1\n", r#"#{"a": "1"}"#),
        ("a: \"\\ud800\"\n", "#{\"a\": \"\u{fffd}\"}"),
        ("a: [-]\n", r#"#{"a": ["-"]}"#),
        ("a: &a x\n*a: 1\n", r#"#{"a": "x", "x": 1}"#),
        ("a: b\u{feff}c\n", r#"#{"a": "b\u{feff}c"}"#),
        ("\u{feff}a: 1\n", r#"#{"a": 1}"#),
        ("\u{feff}\u{feff}a: 1\n", r#"#{"\u{feff}a": 1}"#),
        ("a: 0o9\nb: 1:5_.\n", r#"#{"a": "0o9", "b": "1:5_."}"#),
        ("a: [\"b\"\n: c]\n", r#"error: line 2: ',' or ']' must stand here"#),
    ] {
        assert_eq!(shown(text), wanted, "{text:?}");
    }
}

#[test]
fn what_pyyaml_refuses_is_refused() {
    let long = "k".repeat(1100);
    let number = "9".repeat(5000);
    let built = [
        format!("x: {{{long}: b}}\n"),
        format!("x: [\"{long}\": b]\n"),
        format!("{long}: b\n"),
        format!("x: {number}\n"),
        format!("x: !!int \"{number}\"\n"),
    ];
    let tabs = [
        "a: [b, c]\t# ours\n",
        "a: [b, c]\t\n",
        "a: \"b\"\t\n",
        "a: {b: 1}\t# c\n",
        "[\ta]",
        "a: &a\tb\n",
        "a: !!str\tb\n",
        "a: b\t\n",
        "a: 1\t# c\n",
        "a:\tb\n",
        "a: |\t\n  b\n",
        "-\ta\n",
    ];
    let anchors =
        ["x: &a 1\ny: &a 2\n", "x: &a.b 1\n", "x: &é 1\n", "x: *a\n", "x: &a &b 1\n", "x: &a *a\n", "x: & a\n"];
    let tags = [
        "x: !!str [a]\n",
        "x: !!str {a: 1}\n",
        "x: !!seq {}\n",
        "x: !!map [a]\n",
        "x: !!set [a]\n",
        "x: !!omap [a]\n",
        "x: !!omap {a: 1}\n",
        "x: !!omap [{a: 1, b: 2}]\n",
        "x: !!pairs [1]\n",
        "x: !!int [1]\n",
        "x: !!int \"\"\n",
        "x: !!float abc\n",
        "x: !!binary é\n",
        "x: !!binary a\n",
        "x: !!bool 1\n",
        "x: !!timestamp x\n",
        "x: !!merge a\n",
        "x: !!yaml a\n",
        "x: !a!b c\n",
        "x: !!\n",
        "x: !<>\n",
        "x: !!str, a\n",
    ];
    let merges =
        ["<<: [{a: 1}, 1]\n", "x: {<<: [a]}\n", "<<: 1\n", "<<: ~\n", "x: <<\n", "x: [=]\n", "x: !!omap [=: 1]\n"];
    let numbers = ["x: 0x_\n", "x: 0b_\n", "x: +0x_\n", "x: 0x__\n", "x: -0b_\n"];
    let times = [
        "x: 2001-02-30\n",
        "2001-02-30: x\n",
        "x: 0000-01-01\n",
        "x: 2001-02-03 04:60:06\n",
        "x: 2001-02-03 24:00:00\n",
        "x: 2001-02-03t04:05:60\n",
        "x: 2001-02-03T04:05:06+99:00\n",
        "x: 2001-02-28t23:59:59.1234567890-25:00\n",
    ];
    let others = [
        "...\na: 1\n",
        "a: 1\n: x\n",
        "[a?b]",
        "{a?: b}",
        "[:]",
        "[a:1, :b]",
        "{: b}",
        "{a\n: b}",
        "a: \"\\U00110000\"\n",
        "a: \"b\n---\n\"\n",
        "a: |0\n  b\n",
        "%YAML 1.1\n%YAML 1.1\n---\na: 1\n",
        "{{a: 1}: 1}",
        "{? [a] : 1}",
        "a: &a\n  *a : 1\n",
        "a: ]\n",
        "a: [b}\n",
        "a\nb: 1\n",
        "a: @b\n",
    ];
    let built = built.iter().map(String::as_str);
    let fixed = [&tabs[..], &anchors, &tags, &merges, &numbers, &times, &others].concat();
    for text in built.chain(fixed) {
        assert!(parse(text).is_err(), "{text:?}: {}", shown(text));
    }
}

#[test]
fn lines_of_keys_are_known() {
    let (_, lines) = parse("# c\na:\n  b:\n    c: 1\nd: [\n  {e: 2}]\n").unwrap();
    let line = |key: &str| lines[key].as_int().unwrap();
    assert_eq!([line("a"), line("a.b"), line("a.b.c"), line("d"), line("d.e")], [2, 3, 4, 5, 6]);
    let (_, lines) =
        parse("--- # c\r\n'a': \"b\r\n c\"\r\n\r\n? &d |\r\n  e\r\n: 1\r\nf: {\ng: [h: 1\n]}\n*d : 2\n").unwrap();
    let line = |key: &str| lines[key].as_int().unwrap();
    assert_eq!(parse("a: 1\n?\n\n").unwrap().1[""].as_int(), Ok(2));
    assert_eq!([line("a"), line("f"), line("f.g"), line("f.g.h"), line("e\n")], [2, 8, 9, 9, 11]);
}

#[test]
fn what_is_wrong_or_too_much_is_refused() {
    for text in [
        "a: [",
        "a: b: c\n",
        "\ta: 1\n",
        "a:\n\t- 1\n",
        "a: 1\n---\nb: 2\n",
        "? [a]\n: 1\n",
        "a: !x 1\n",
        "a: \u{7}\n",
        "a: 2026-02-30 1:00:00\n",
        "a: !!int x\n",
        "a: !x {b: 1}\n",
        "a: !!python/tuple [1]\n",
        "a: =\n",
        "%YAML 2.0\n---\na: 1\n",
    ] {
        assert!(parse(text).is_err(), "{text:?}: {}", shown(text));
    }
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![before; 10].join(", "));
    }
    assert!(shown(&bomb).contains("over 100000 values"), "{}", shown(&bomb));
    let mut merges = "a0: &a0 {x: 1}\n".to_string();
    for level in 1..40 {
        merges += &format!("a{level}: &a{level} {{<<: [*a{0}, *a{0}]}}\n", level - 1);
    }
    assert!(shown(&merges).contains("over 100000 values"), "{}", shown(&merges));
}

#[test]
fn nesting_is_read_up_to_a_limit() {
    for (start, middle, end) in
        [("[", "", "]"), ("{a: ", "b", "}"), ("- ", "b", ""), ("- a: ", "b", ""), ("? ", "b", "")]
    {
        let nested = |depth: usize| format!("{}{middle}{}\n", start.repeat(depth), end.repeat(depth));
        let deep = shown(&nested(100));
        assert_eq!(deep.starts_with("error"), start.starts_with("- a") || start == "? ", "{start:?}: {deep}");
        assert!(shown(&nested(5000)).starts_with("error"), "{start:?}");
    }
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let (value, _) = parse(&nested(DEPTH_MAX)).unwrap();
    assert_eq!(value.clone().to_string(), nested(DEPTH_MAX));
    assert!(shown(&nested(DEPTH_MAX + 1)).contains("nested over"));
    let mut aliases = "a0: &a0 [x]\n".to_string();
    for level in 1..300 {
        aliases += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
    }
    assert!(shown(&aliases).starts_with("error"));
    assert!(shown(&"? ".repeat(5000)).starts_with("error"));
    assert!(shown(&"[{".repeat(5000)).starts_with("error"));
    assert!(shown(&"!!str &".repeat(5000)).starts_with("error"));
}
