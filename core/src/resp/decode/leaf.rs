//! The nodes that most replies consist of, recognised at a glance.

/// A node without children, whole and valid by itself: a status, an integer, a bulk string or null.
pub(super) struct Leaf {
    /// All of it, with its line ends.
    pub(super) length: usize,
    /// A bulk string's text.
    pub(super) text: usize,
}

/// A status of servers' own is shorter.
const STATUS_MAX: usize = 32;

/// Integers and lengths with so many digits fit into 64 bits.
const DIGITS_MAX: usize = 18;

impl Leaf {
    /// The leaf that these bytes begin with. `None` for everything that needs a closer look.
    #[inline]
    pub(super) fn at(bytes: &[u8]) -> Option<Self> {
        let (marker, line) = bytes.split_first()?;
        let leaf = |line: usize| Some(Self { length: line + 3, text: 0 });
        match marker {
            b'$' => {
                let (length, digits) = number(line)?;
                let text = line.get(digits + 2..)?;
                if length == 0 && digits == 0 {
                    return None;
                }
                match text.get(length..)? {
                    [b'\r', b'\n', ..] => Some(Self { length: digits + 3 + length + 2, text: length }),
                    _ => None,
                }
            }
            b'+' => {
                let searched = line.get(..STATUS_MAX).unwrap_or(line);
                let end = searched.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
                if line.get(end..end + 2)? == b"\r\n" { leaf(end) } else { None }
            }
            b':' => {
                let sign = usize::from(line.first() == Some(&b'-'));
                let (_, digits) = number(line.get(sign..)?)?;
                if digits == 0 { None } else { leaf(sign + digits) }
            }
            b'_' if line.starts_with(b"\r\n") => leaf(0),
            _ => None,
        }
    }
}

/// The number before a line end, and how many digits it has.
#[inline]
fn number(line: &[u8]) -> Option<(usize, usize)> {
    let mut number = 0u64;
    let mut digits = 0;
    loop {
        match line.get(digits)? {
            digit @ b'0'..=b'9' if digits < DIGITS_MAX => number = number * 10 + u64::from(digit - b'0'),
            b'\r' if line.get(digits + 1) == Some(&b'\n') => break,
            _ => return None,
        }
        digits += 1;
    }
    Some((usize::try_from(number).ok()?, digits))
}
