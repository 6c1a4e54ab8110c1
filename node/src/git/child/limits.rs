//! What the child may use of the machine, enforced by the kernel.

use crate::git::order::FetchLimits;
use rlimit::Resource;

const MIB: u64 = 1 << 20;

/// Sets the limits of this process, for good.
pub(super) fn apply(limits: &FetchLimits) -> std::io::Result<()> {
    // A file is held once, and once more as the base of its delta. Mapped packs do not count here.
    let data = 2 * limits.file_bytes + 96 * MIB;
    // The largest files are a received pack and the tar: 512 bytes of header and as much padding an
    // entry, more for long names.
    let file = limits
        .received_bytes
        .max(limits.tree_bytes + limits.files * 2048)
        + 64 * MIB;
    let cpu = limits.wall.as_secs().max(1) * 2;
    for (resource, value) in [
        (Resource::CORE, 0),
        (Resource::DATA, data),
        (Resource::AS, data + 4 * limits.received_bytes + 4096 * MIB),
        (Resource::FSIZE, file),
        (Resource::CPU, cpu),
        (Resource::NOFILE, 256),
    ] {
        let (_, hard) = rlimit::getrlimit(resource)?;
        let value = value.min(hard);
        rlimit::setrlimit(resource, value, value)?;
    }
    Ok(())
}
