//! ELF files (System V ABI, gABI chapters 4 and 5): the words of their headers, and what they are in the words of file(1).

use crate::base::bytes::{be16, be32, be64, le16, le32, le64};
use crate::base::printable;

/// Segment types: the dynamic section, the interpreter's name, notes.
pub(super) const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
/// Section types: symbols, notes.
const SHT_SYMTAB: u32 = 2;
const SHT_NOTE: u32 = 7;
/// File types.
const RELOCATABLE: u64 = 1;
const EXECUTABLE: u64 = 2;
const SHARED: u64 = 3;
/// Tags of dynamic entries: a library that is needed, and a word of flags with the one of programs that may lie anywhere.
const DT_NEEDED: u64 = 1;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_PIE: u64 = 0x0800_0000;
/// Most bytes of a table, section or note that are read, an eighth of all that are; most headers.
const BYTES_MAX: u64 = 1 << 20;
const HEADERS_MAX: u64 = 4096;

/// Bytes of the file at an offset, fewer where it ends.
pub(super) type Source<'a> = dyn FnMut(u64, u64) -> Vec<u8> + 'a;

/// A program header.
pub(super) struct Segment {
    pub kind: u32,
    pub offset: u64,
    pub address: u64,
    pub len: u64,
    align: u64,
}

/// The size and order of a file's words.
#[derive(Clone, Copy)]
pub(super) struct Words {
    pub wide: bool,
    little: bool,
}

impl Words {
    /// Those of the file that begins with these bytes, if it is an ELF file with a whole header.
    pub fn of(head: &[u8]) -> Option<Self> {
        let known = head.starts_with(b"\x7fELF") && head.len() >= 52;
        let (class, data) = (*head.get(4)?, *head.get(5)?);
        let words = Words { wide: class == 2, little: data == 1 };
        (known && matches!(class, 1 | 2) && matches!(data, 1 | 2) && (!words.wide || head.len() >= 64)).then_some(words)
    }

    pub fn half(self, bytes: &[u8], at: usize) -> u64 {
        u64::from(if self.little { le16(bytes, at) } else { be16(bytes, at) })
    }

    fn quarter(self, bytes: &[u8], at: usize) -> u32 {
        if self.little { le32(bytes, at) } else { be32(bytes, at) }
    }

    pub fn word(self, bytes: &[u8], at: usize) -> u64 {
        match (self.wide, self.little) {
            (true, true) => le64(bytes, at),
            (true, false) => be64(bytes, at),
            (false, true) => le32(bytes, at).into(),
            (false, false) => be32(bytes, at).into(),
        }
    }

    /// Where the program headers lie: offset, size of one, number.
    pub fn segments(self, head: &[u8]) -> (u64, u64, u64) {
        let [table, size, count] = if self.wide { [32, 54, 56] } else { [28, 42, 44] };
        (self.word(head, table), self.half(head, size), self.half(head, count))
    }

    /// Fewest bytes of a program header.
    pub fn segment_size(self) -> u64 {
        if self.wide { 56 } else { 32 }
    }

    pub fn segment(self, bytes: &[u8]) -> Segment {
        let kind = self.quarter(bytes, 0);
        let places = if self.wide { [8, 16, 32, 48] } else { [4, 8, 16, 28] };
        let [offset, address, len, align] = places.map(|at| self.word(bytes, at));
        Segment { kind, offset, address, len, align }
    }
}

/// The file while it is looked at.
struct File<'a> {
    words: Words,
    read: &'a mut Source<'a>,
    /// Bytes that may still be read.
    left: u64,
    build: Option<String>,
    system: Option<String>,
    /// What notes say, in their order.
    said: String,
}

impl File<'_> {
    fn bytes(&mut self, offset: u64, len: u64) -> Vec<u8> {
        let len = len.min(BYTES_MAX).min(self.left);
        self.left -= len;
        (self.read)(offset, len)
    }

    fn table(&mut self, (offset, size, count): (u64, u64, u64), least: u64) -> Vec<Vec<u8>> {
        if size < least || count > HEADERS_MAX || size * count > BYTES_MAX {
            return Vec::new();
        }
        let bytes = self.bytes(offset, size * count);
        bytes.chunks_exact(size as usize).map(<[u8]>::to_vec).collect()
    }

    /// Notes: who the note is of, and what.
    fn notes(&mut self, offset: u64, len: u64, align: u64) {
        let (words, bytes) = (self.words, self.bytes(offset, len));
        let pad = |len: u32| (len as usize).next_multiple_of(if align == 8 { 8 } else { 4 });
        let mut rest = bytes.as_slice();
        while rest.len() >= 12 {
            let [name_len, len, kind] = [0, 4, 8].map(|at| words.quarter(rest, at));
            let name = rest.get(12..).and_then(|rest| rest.get(..name_len as usize)).unwrap_or_default();
            let start = 12 + (name_len as usize).next_multiple_of(4);
            let Some(text) = rest.get(start..).and_then(|rest| rest.get(..len as usize)) else { return };
            match (name, kind) {
                (b"GNU\0", 1) if text.len() >= 16 && self.system.is_none() => {
                    let system = match words.quarter(text, 0) {
                        0 => "GNU/Linux",
                        1 => "GNU/Hurd",
                        2 => "Solaris",
                        3 => "kFreeBSD",
                        4 => "kNetBSD",
                        _ => "<unknown>",
                    };
                    let [major, minor, patch] = [4, 8, 12].map(|at| words.quarter(text, at));
                    self.say(&format!("for {system} {major}.{minor}.{patch}"));
                    self.system = Some(system.to_string());
                }
                (b"GNU\0", 3) if (4..=20).contains(&text.len()) && self.build.is_none() => {
                    let form = match text.len() {
                        8 => "xxHash",
                        16 => "md5/uuid",
                        20 => "sha1",
                        _ => "unknown",
                    };
                    let build: String = text.iter().map(|byte| format!("{byte:02x}")).collect();
                    self.say(&format!("BuildID[{form}]={build}"));
                    self.build = Some(build);
                }
                (b"Go\0\0", 4) if text.len() < 256 && self.build.is_none() => {
                    let build = printable(text);
                    self.say(&format!("Go BuildID={build}"));
                    self.build = Some(build);
                }
                _ => {}
            }
            rest = rest.get(start + pad(len)..).unwrap_or_default();
        }
    }

    fn say(&mut self, what: &str) {
        self.said.push_str(", ");
        self.said.push_str(what);
    }

    /// What the dynamic section says: whether libraries are needed, and the flag of programs that may lie anywhere.
    fn dynamic(&mut self, segment: &Segment) -> (bool, Option<bool>) {
        let (words, step) = (self.words, if self.words.wide { 16 } else { 8 });
        let bytes = self.bytes(segment.offset, segment.len);
        let (mut needs, mut anywhere) = (false, None);
        for entry in bytes.chunks_exact(step) {
            match (words.word(entry, 0), words.word(entry, step / 2)) {
                (0, _) => break,
                (DT_NEEDED, _) => needs = true,
                (DT_FLAGS_1, flags) => anywhere = Some(flags & DF_1_PIE != 0),
                _ => {}
            }
        }
        (needs, anywhere)
    }

    /// What the sections say, behind their notes.
    fn sections(&mut self, head: &[u8]) -> String {
        let (words, wide) = (self.words, self.words.wide);
        let [table, size, count, names] = if wide { [40, 58, 60, 62] } else { [32, 46, 48, 50] };
        let (table, size, count) = (words.word(head, table), words.half(head, size), words.half(head, count));
        if count == 0 {
            return ", no section header".to_string();
        }
        let headers = self.table((table, size, count), if wide { 64 } else { 40 });
        if headers.len() as u64 != count {
            return format!(", missing section headers at {table}");
        }
        let place = |header: &[u8]| {
            let [offset, len] = if wide { [24, 32] } else { [16, 20] }.map(|at| words.word(header, at));
            (offset, len)
        };
        let names = headers.get(words.half(head, names) as usize).map(|header| place(header));
        let names = names.map(|(offset, len)| self.bytes(offset, len)).unwrap_or_default();
        let (mut stripped, mut debug) = (true, false);
        for header in &headers {
            let name = names.get(words.quarter(header, 0) as usize..).unwrap_or_default();
            debug |= name.starts_with(b".debug_info\0");
            match words.quarter(header, 4) {
                SHT_SYMTAB => stripped = false,
                SHT_NOTE => {
                    let (offset, len) = place(header);
                    self.notes(offset, len, words.word(header, if wide { 48 } else { 32 }));
                }
                _ => {}
            }
        }
        let debug = if debug { ", with debug_info" } else { "" };
        format!("{debug}, {}stripped", if stripped { "" } else { "not " })
    }
}

/// A program, library or object file that begins with `start`, as file(1) says it.
pub(super) fn describe<'a>(start: &[u8], read: &'a mut Source<'a>) -> Option<String> {
    if !start.starts_with(b"\x7fELF") || start.len() < 20 {
        return None;
    }
    let words = Words { wide: start[4] == 2, little: start[5] == 1 };
    let mut file = File { words, read, left: 8 * BYTES_MAX, build: None, system: None, said: String::new() };
    let kind = words.half(start, 16);
    let (mut interpreter, mut dynamic, mut notes) = (None, None, Vec::new());
    if Words::of(start).is_some() && matches!(kind, EXECUTABLE | SHARED) {
        for header in file.table(words.segments(start), words.segment_size()) {
            let segment = words.segment(&header);
            match segment.kind {
                PT_DYNAMIC => dynamic = Some(file.dynamic(&segment)),
                PT_INTERP => interpreter = Some(file.bytes(segment.offset, segment.len.min(256))),
                PT_NOTE => notes.push(segment),
                _ => {}
            }
        }
    }
    let anywhere = dynamic.and_then(|(_, flag)| flag);
    let name = match kind {
        RELOCATABLE => "relocatable",
        EXECUTABLE => "executable",
        SHARED if anywhere == Some(true) => "pie executable",
        SHARED => "shared object",
        4 => "core file",
        _ => "unknown type",
    };
    let linked = match (kind, dynamic) {
        (EXECUTABLE | SHARED, None) => ", statically linked",
        (SHARED, Some((false, Some(true)))) if interpreter.is_none() => ", static-pie linked",
        (EXECUTABLE | SHARED, Some(_)) => ", dynamically linked",
        _ => "",
    };
    let class = match start[4] {
        1 => "32-bit",
        2 => "64-bit",
        _ => "unknown class",
    };
    let order = if words.little { "LSB" } else { "MSB" };
    let abi = match start[7] {
        3 => "GNU/Linux",
        9 => "FreeBSD",
        _ => "SYSV",
    };
    let machine = machine(words.half(start, 18));
    let mut text = format!("ELF {class} {order} {name}, {machine}, version 1 ({abi}){linked}");
    if let Some(path) = interpreter {
        let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
        text.push_str(&format!(", interpreter {}", printable(path)));
    }
    for segment in notes {
        file.notes(segment.offset, segment.len, segment.align);
    }
    let end = match kind {
        RELOCATABLE | EXECUTABLE | SHARED if Words::of(start).is_some() => file.sections(start),
        _ => String::new(),
    };
    Some(format!("{text}{}{end}", file.said))
}

fn machine(number: u64) -> &'static str {
    match number {
        2 => "SPARC",
        3 => "Intel 80386",
        8 => "MIPS",
        20 => "PowerPC or cisco 4500",
        21 => "64-bit PowerPC or cisco 7500",
        22 => "IBM S/390",
        40 => "ARM",
        43 => "SPARC V9",
        50 => "IA-64",
        62 => "x86-64",
        183 => "ARM aarch64",
        243 => "UCB RISC-V",
        258 => "LoongArch",
        _ => "unknown machine",
    }
}
