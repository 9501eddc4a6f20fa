//! Which machine this is, whatever it is called.

use sha2::{Digest, Sha256};

/// The same for all processes of a machine while it is up, and of no other. machine-id(5) asks that its id be kept to the
/// machine, and clones share it: so this is a digest of it and of the kernel's boot id (random(4)).
pub fn id() -> String {
    let read = |file| std::fs::read(file).unwrap_or_default();
    let digest = Sha256::new()
        .chain_update(read("/proc/sys/kernel/random/boot_id"))
        .chain_update(read("/etc/machine-id"))
        .finalize();
    let short = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{short:016x}")
}
