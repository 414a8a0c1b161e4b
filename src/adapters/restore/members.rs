//! Reads a tar stream member by member, strictly: what two programs could read differently is refused, not interpreted.
//!
//! The headers' fields are the `tar` crate's; its own iterator is not used, because it obeys what an archive says (skips `..`,
//! makes links, takes a size from an extension, stops at the first end). Writes nothing and trusts nothing.

use super::names::{checked, damaged, is_id, refused};
use crate::adapters::backup::format::MEMBERS_MAX;
use moon_actors::{Error, Result};
use std::collections::BTreeSet;
use std::io::{self, BufRead, Read};
use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// Longest extension header, bytes.
const EXTENSION_MAX: u64 = 64 << 10;
/// Zeros that may stand behind the end, bytes: what tar programs fill their last record with, and more.
const FILLER_MAX: usize = 1 << 20;

/// Whose layout an archive has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Moon's own: `<id>/home`, `<id>/include`, `manifest.json`, `checksums.sha256`.
    Moon,
    /// The one of the operations document: `<stamp>/*.db`, `*.jsonl`, `checksums.sha256`.
    Document,
}

/// A member below the top folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::adapters) struct Member {
    /// Relative to the top folder, checked.
    pub path: String,
    pub is_folder: bool,
    pub bytes: u64,
    /// Who owned it; never applied.
    pub owner: u64,
    pub mtime: u64,
}

/// A strict reader. The body of the member that [`Members::next`] gave is read from it as from a file.
pub(in crate::adapters) struct Members<'a, R: ?Sized = dyn Read + 'a> {
    input: &'a mut R,
    layout: Layout,
    top: Option<String>,
    left: u64,
    padding: usize,
    seen: usize,
}

/// What extension headers said of the next member.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    size: Option<u64>,
    is_any: bool,
}

impl<'a, R: Read + ?Sized> Members<'a, R> {
    pub(in crate::adapters) fn new(input: &'a mut R, layout: Layout) -> Self {
        Self { input, layout, top: None, left: 0, padding: 0, seen: 0 }
    }

    /// The one folder that everything lies in.
    pub(in crate::adapters) fn top(&self) -> Option<&str> {
        self.top.as_deref()
    }

    /// The next member; `None` after the end, behind which there is nothing but zeros.
    pub(in crate::adapters) fn next(&mut self) -> Result<Option<Member>> {
        let mut extended = Extended::default();
        loop {
            self.finish_body()?;
            let mut block = [0; BLOCK];
            self.fill(&mut block)?;
            if block.iter().all(|b| *b == 0) {
                if extended.is_any {
                    return Err(refused("an extension header belongs to no member"));
                }
                return self.end().map(|()| None);
            }
            let header = Header::from_byte_slice(&block);
            check_header(header)?;
            // Extensions do not count: there is at most one to a member.
            self.seen += usize::from(!matches!(header.entry_type(), EntryType::XHeader | EntryType::GNULongName));
            if self.seen > MEMBERS_MAX {
                return Err(too_large(format!("more than {MEMBERS_MAX} members")));
            }
            let size = size(&header.as_old().size)?;
            match header.entry_type() {
                EntryType::XHeader | EntryType::GNULongName => {
                    self.extension(header.entry_type(), size, &mut extended)?;
                }
                EntryType::XGlobalHeader if self.layout == Layout::Document => {
                    // What the document's system says of all members is about its own world.
                    self.body(size)?;
                }
                _ => match self.member(header, size, std::mem::take(&mut extended))? {
                    Some(member) => return Ok(Some(member)),
                    None => self.skip()?,
                },
            }
        }
    }

    fn member(&mut self, header: &Header, size: u64, extended: Extended) -> Result<Option<Member>> {
        let raw = match extended.path {
            Some(path) => path,
            None => header_path(header)?,
        };
        let shown = String::from_utf8_lossy(&raw).into_owned();
        let is_folder = match header.entry_type() {
            EntryType::Regular if block_type(header) == b'0' || self.layout == Layout::Document => false,
            EntryType::Directory => true,
            other => return Err(refused(format!("{shown} is neither a file nor a folder but {}", kind(other)))),
        };
        if extended.size.is_some_and(|said| said != size) {
            return Err(refused(format!("two headers of {shown} give it different sizes")));
        }
        if is_folder && size != 0 || !is_folder && raw.ends_with(b"/") {
            return Err(refused(format!("{shown} is half a file and half a folder")));
        }
        if header.as_old().linkname.iter().any(|b| *b != 0) {
            return Err(refused(format!("{shown} names the target of a link")));
        }
        self.expect_body(size);
        let raw = if self.layout == Layout::Document { raw.strip_prefix(b"./").unwrap_or(&raw) } else { &raw };
        if raw.is_empty() && is_folder {
            return Ok(None);
        }
        let path = checked(raw)?;
        if self.layout == Layout::Document && path.split('/').any(|name| name.starts_with("._")) {
            // AppleDouble: what macOS kept of a file beside its content.
            return Ok(None);
        }
        let (top, below) = path.split_once('/').map_or((path, None), |(top, below)| (top, Some(below)));
        self.check_top(top)?;
        let owner = header.uid().map_err(|_| damaged(format!("the owner of {shown} is no number")))?;
        let mtime = header.mtime().unwrap_or_default();
        match below {
            Some(below) => Ok(Some(Member { path: below.to_owned(), is_folder, bytes: size, owner, mtime })),
            None if is_folder => Ok(None),
            None => Err(refused(format!("{shown} lies outside of the archive's one folder"))),
        }
    }

    fn check_top(&mut self, top: &str) -> Result<()> {
        match &self.top {
            Some(known) if known == top => Ok(()),
            Some(known) => Err(refused(format!("members lie in two folders, {known} and {top}"))),
            None if is_id(top) => {
                self.top = Some(top.to_owned());
                Ok(())
            }
            None => Err(refused(format!("the archive's folder {top} has not the name of a backup"))),
        }
    }

    /// PAX records of one member, or GNU's long name: both say the path, nothing else is obeyed.
    fn extension(&mut self, kind: EntryType, size: u64, extended: &mut Extended) -> Result<()> {
        if extended.is_any {
            return Err(refused("two extension headers speak of one member"));
        }
        extended.is_any = true;
        let body = self.body(size)?;
        if kind == EntryType::GNULongName {
            let name = body.strip_suffix(b"\0").unwrap_or(&body);
            extended.path = Some(name.to_vec());
            return Ok(());
        }
        let mut keys = BTreeSet::new();
        for (key, value) in pax_records(&body)? {
            if !keys.insert(key) {
                return Err(refused(format!("an extension header says {key} twice")));
            }
            match key {
                "path" => extended.path = Some(value.to_vec()),
                "size" => {
                    let said = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                    extended.size = Some(said.ok_or_else(|| refused("an extension header's size is no number"))?);
                }
                "mtime" | "atime" | "ctime" | "uid" | "gid" | "uname" | "gname" | "comment" => {}
                _ if self.layout == Layout::Document
                    && (key.starts_with("LIBARCHIVE.") || key.starts_with("SCHILY.")) => {}
                _ => return Err(refused(format!("an extension header says {key}, which no backup does"))),
            }
        }
        Ok(())
    }

    fn body(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION_MAX {
            return Err(refused(format!("an extension header has {size} bytes")));
        }
        self.expect_body(size);
        let mut body = vec![0; size as usize];
        self.read_exact(&mut body).map_err(|e| read_error(&e))?;
        self.finish_body()?;
        Ok(body)
    }

    fn expect_body(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK - (size % BLOCK as u64) as usize) % BLOCK;
    }

    fn skip(&mut self) -> Result<()> {
        io::copy(self, &mut io::sink()).map(drop).map_err(|e| read_error(&e))
    }

    /// Expects the zeros that fill a member's last block.
    fn finish_body(&mut self) -> Result<()> {
        debug_assert_eq!(self.left, 0, "a body is read to its end");
        let mut filler = [0; BLOCK];
        let filler = &mut filler[..std::mem::take(&mut self.padding)];
        self.fill(filler)?;
        if filler.iter().any(|b| *b != 0) {
            return Err(damaged("something stands between two members"));
        }
        Ok(())
    }

    /// Behind the first empty block: one more, then nothing but zeros.
    fn end(&mut self) -> Result<()> {
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        let mut behind = 0;
        loop {
            if block.iter().any(|b| *b != 0) {
                return Err(refused("something stands behind the archive's end"));
            }
            let read = self.input.read(&mut block).map_err(|e| read_error(&e))?;
            block[read..].fill(0);
            behind += read;
            if read == 0 {
                return Ok(());
            }
            if behind > FILLER_MAX {
                return Err(refused("the archive's end is filled without an end"));
            }
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.input.read_exact(buffer).map_err(|e| read_error(&e))
    }
}

impl<R: Read + ?Sized> Read for Members<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let read = self.input.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

impl<R: BufRead + ?Sized> BufRead for Members<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let there = self.input.fill_buf()?;
        if there.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(&there[..there.len().min(usize::try_from(self.left).unwrap_or(usize::MAX))])
    }
    fn consume(&mut self, bytes: usize) {
        self.left -= bytes as u64;
        self.input.consume(bytes);
    }
}

pub(super) fn too_large(why: impl std::fmt::Display) -> Error {
    Error::data("restore.too_large", "the archive is larger than it may be, and nothing was touched")
        .cause(why)
        .hint("it was not made by Moon, or holds what should be backed up otherwise")
}

/// Errors of the layers below: a decoder's own have no number of the system's.
pub(super) fn read_error(error: &io::Error) -> Error {
    if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return inner.clone();
    }
    match error.raw_os_error() {
        Some(_) => Error::transient("restore.unreadable", "could not read the archive").cause(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => damaged("it ends too early"),
        None => damaged(error),
    }
}

fn check_header(header: &Header) -> Result<()> {
    if header.as_ustar().is_none() && header.as_gnu().is_none() {
        return Err(damaged("a header is neither POSIX nor GNU tar"));
    }
    let bytes = header.as_bytes();
    let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|b| u32::from(*b)).sum::<u32>() + 8 * u32::from(b' ');
    if header.cksum().ok() != Some(sum) {
        return Err(damaged("the sum of a header does not fit"));
    }
    Ok(())
}

fn block_type(header: &Header) -> u8 {
    header.as_old().linkflag[0]
}

fn header_path(header: &Header) -> Result<Vec<u8>> {
    let plain = |field: &[u8]| {
        let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
        if field[end..].iter().any(|b| *b != 0) {
            return Err(refused("a member's name goes on behind its end"));
        }
        Ok(field[..end].to_vec())
    };
    let name = plain(&header.as_old().name)?;
    match header.as_ustar() {
        Some(ustar) if ustar.prefix[0] != 0 => {
            let mut path = plain(&ustar.prefix)?;
            path.push(b'/');
            path.extend(name);
            Ok(path)
        }
        _ => Ok(name),
    }
}

/// Eleven octal digits and an end: every other spelling is read differently somewhere. Larger numbers are base 256.
fn size(field: &[u8; 12]) -> Result<u64> {
    if field[0] == 0x80 && field[1..4] == [0; 3] {
        let number = u64::from_be_bytes(field[4..].try_into().expect("eight bytes"));
        return if number >> 33 == 0 { Err(refused("a small size in large spelling")) } else { Ok(number) };
    }
    let is_plain = field[..11].iter().all(|b| (b'0'..=b'7').contains(b)) && matches!(field[11], 0 | b' ');
    if !is_plain {
        return Err(refused("a member's size is not eleven octal digits"));
    }
    Ok(field[..11].iter().fold(0, |n, b| n * 8 + u64::from(b - b'0')))
}

/// `<length> <key>=<value>\n`, one after the other, to the last byte.
fn pax_records(mut body: &[u8]) -> Result<Vec<(&str, &[u8])>> {
    let broken = || refused("an extension header is not well-formed");
    let mut records = Vec::new();
    while !body.is_empty() {
        let space = body.iter().take(8).position(|b| *b == b' ').ok_or_else(broken)?;
        let digits = std::str::from_utf8(&body[..space]).map_err(|_| broken())?;
        let is_number = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        let length: usize = if is_number { digits.parse().map_err(|_| broken())? } else { return Err(broken()) };
        if length > body.len() || length <= space + 1 || body[length - 1] != b'\n' {
            return Err(broken());
        }
        let record = &body[space + 1..length - 1];
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(broken)?;
        let key = std::str::from_utf8(&record[..equals]).map_err(|_| broken())?;
        records.push((key, &record[equals + 1..]));
        body = &body[length..];
    }
    Ok(records)
}

fn kind(entry: EntryType) -> &'static str {
    match entry {
        EntryType::Link => "a hard link",
        EntryType::Symlink => "a symbolic link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a pipe",
        EntryType::GNUSparse => "a sparse file",
        EntryType::XGlobalHeader => "a header for all members",
        _ => "something unknown",
    }
}
