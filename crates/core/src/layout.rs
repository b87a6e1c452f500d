//! Explicit byte layouts: big-endian, unsigned, fixed order. Entries and snapshots are read for decades, so no layout
//! here follows from how a compiler or a library arranges a type.

use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

/// Bytes that end early, or a value outside of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bytes are not what their layout says: {0}")]
pub struct LayoutError(pub &'static str);

/// Appends fields.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    /// Two bytes.
    pub fn u16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }
    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }
    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.raw(&value.to_be_bytes());
    }
    /// Eight bytes, two's complement.
    pub fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }
    /// Eight bytes of Unix milliseconds.
    pub fn time(&mut self, value: Timestamp) {
        self.u64(value.as_ms());
    }
    /// Bytes of a length that the reader knows.
    pub fn raw(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }
    /// One byte: 1 for yes.
    pub fn flag(&mut self, value: bool) {
        self.u8(u8::from(value));
    }
    /// A length in one byte, then the text.
    pub fn request_id(&mut self, value: &RequestId) {
        let text = value.as_str().as_bytes();
        self.u8(u8::try_from(text.len()).expect("a request id has at most 64 characters"));
        self.raw(text);
    }
    /// A count in eight bytes: what follows comes that often.
    pub fn count(&mut self, value: usize) {
        self.u64(u64::try_from(value).expect("a count fits in 64 bits"));
    }
}

/// Takes fields off.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// Bytes of a fixed length.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], LayoutError> {
        let (head, tail) = self.0.split_first_chunk().ok_or(LayoutError("too short"))?;
        self.0 = tail;
        Ok(*head)
    }
    /// Bytes of a given length.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn slice(&mut self, length: usize) -> Result<&'a [u8], LayoutError> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(LayoutError("too short"))?;
        self.0 = tail;
        Ok(head)
    }
    /// One byte.
    ///
    /// # Errors
    /// When none is left.
    pub fn u8(&mut self) -> Result<u8, LayoutError> {
        self.array().map(u8::from_be_bytes)
    }
    /// Two bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u16(&mut self) -> Result<u16, LayoutError> {
        self.array().map(u16::from_be_bytes)
    }
    /// Four bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u32(&mut self) -> Result<u32, LayoutError> {
        self.array().map(u32::from_be_bytes)
    }
    /// Eight bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u64(&mut self) -> Result<u64, LayoutError> {
        self.array().map(u64::from_be_bytes)
    }
    /// Eight bytes, two's complement.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn i64(&mut self) -> Result<i64, LayoutError> {
        self.array().map(i64::from_be_bytes)
    }
    /// Eight bytes of Unix milliseconds.
    ///
    /// # Errors
    /// When fewer are left, or the time lies after [`Timestamp::MAX`]: equal values have equal bytes.
    pub fn time(&mut self) -> Result<Timestamp, LayoutError> {
        let ms = self.u64()?;
        let time = Timestamp::from_ms(ms);
        if time.as_ms() == ms { Ok(time) } else { Err(LayoutError("a time after the year 9999")) }
    }
    /// One byte, 0 or 1.
    ///
    /// # Errors
    /// When none is left, or it is another.
    pub fn flag(&mut self) -> Result<bool, LayoutError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(LayoutError("neither yes nor no")),
        }
    }
    /// A length in one byte, then the text.
    ///
    /// # Errors
    /// When it is not a request id.
    pub fn request_id(&mut self) -> Result<RequestId, LayoutError> {
        let length = usize::from(self.u8()?);
        let text = std::str::from_utf8(self.slice(length)?)
            .map_err(|_| LayoutError("not a request id"))?;
        RequestId::parse(text).map_err(|_| LayoutError("not a request id"))
    }
    /// Reads as many items as the count before them says.
    ///
    /// # Errors
    /// When one of them does not read.
    pub fn many<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, LayoutError>,
    ) -> Result<Vec<T>, LayoutError> {
        let count = self.u64()?;
        // The count is not believed when reserving, for it may be damaged: an item takes a quarter of its size in memory
        // or more. With room for those that come next, or the first of them would move all.
        let room = self.0.len().saturating_mul(4).checked_div(size_of::<T>()).unwrap_or_default();
        let likely = usize::try_from(count).unwrap_or(room).min(room);
        let mut items = Vec::with_capacity(likely.saturating_add(likely / 16));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// Says that everything was read.
    ///
    /// # Errors
    /// When bytes are left.
    pub fn end(self) -> Result<(), LayoutError> {
        if self.0.is_empty() { Ok(()) } else { Err(LayoutError("too long")) }
    }
}
