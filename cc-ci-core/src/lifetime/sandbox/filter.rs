//! The system calls that a confined child is refused.
//!
//! Namespaces and capabilities refuse most of what is here already; what is left is the kernel's own surface, which no test
//! of an app needs. All else is allowed: what programs call changes with each version of a C library.

use std::collections::BTreeMap;
use std::io;
use std::sync::OnceLock;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

/// Refused with EPERM, whatever their arguments are.
const REFUSED: &[libc::c_long] = &[
    // Mounts.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    // Namespaces, and other processes.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Keys are the user's, and in no namespace of ours.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // Much code, and many holes.
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_perf_event_open,
    libc::SYS_memfd_secret,
    // The host's own.
    libc::SYS_acct,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Refused on x86 alone, where they are.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[libc::c_long] =
    &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_uselib, libc::SYS_ustat];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[libc::c_long] = &[];

/// The families of sockets that there are for: all else reaches past the network's namespace (vsock), or into old code.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// On x86-64 the kernel may take each call under a second number, with this bit (x32).
const X32: libc::c_long = 0x4000_0000;

/// Each namespace that `clone` makes.
const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// The filters as the kernel reads them. One refuses as not permitted, the other as not there: then the C library falls back
/// from `clone3` to `clone`, whose flags a filter can see.
pub(super) fn programs() -> io::Result<&'static [Vec<u8>; 2]> {
    // Compiled once: it takes as long as the rest of a start.
    static PROGRAMS: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    match PROGRAMS.get() {
        Some(programs) => Ok(programs),
        None => Ok(PROGRAMS.get_or_init({
            let compiled = compiled()?;
            || compiled
        })),
    }
}

fn compiled() -> io::Result<[Vec<u8>; 2]> {
    let absent = numbers(libc::SYS_clone3).map(|number| (number, Vec::new())).collect();
    Ok([bytes(compile(rules()?, libc::EPERM)?), bytes(compile(absent, libc::ENOSYS)?)])
}

/// `struct sock_filter`, one after the other.
fn bytes(program: BpfProgram) -> Vec<u8> {
    let instruction = |sock_filter: seccompiler::sock_filter| {
        let (code, k) = (sock_filter.code.to_ne_bytes(), sock_filter.k.to_ne_bytes());
        [&code[..], &[sock_filter.jt, sock_filter.jf], &k].concat()
    };
    program.into_iter().flat_map(instruction).collect()
}

fn compile(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: libc::c_int) -> io::Result<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let action = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch).map_err(io::Error::other)?;
    filter.try_into().map_err(|error: seccompiler::BackendError| io::Error::other(error))
}

/// The numbers under which the kernel takes a call.
fn numbers(call: libc::c_long) -> impl Iterator<Item = i64> {
    let second = cfg!(target_arch = "x86_64").then_some(call | X32);
    std::iter::once(call).chain(second)
}

fn rules() -> io::Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut rules = BTreeMap::new();
    for &call in REFUSED.iter().chain(REFUSED_HERE) {
        rules.extend(numbers(call).map(|number| (number, Vec::new())));
    }
    let mut conditional = |call, conditions: Vec<Vec<SeccompCondition>>| -> io::Result<()> {
        for number in numbers(call) {
            let alternatives: Result<Vec<_>, _> = conditions.iter().cloned().map(SeccompRule::new).collect();
            rules.insert(number, alternatives.map_err(io::Error::other)?);
        }
        Ok(())
    };
    let namespaces =
        (0..32).map(|bit| 1_u64 << bit).filter(|bit| u64::from(NAMESPACES.unsigned_abs()) & bit != 0);
    let mut makes_one = Vec::new();
    for bit in namespaces {
        makes_one.push(vec![condition(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(bit), bit)?]);
    }
    conditional(libc::SYS_clone, makes_one)?;
    let mut others = Vec::new();
    for family in FAMILIES {
        others.push(condition(
            0,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Ne,
            u64::from(family.unsigned_abs()),
        )?);
    }
    conditional(libc::SYS_socket, vec![others])?;
    // What types on a terminal of somebody else.
    let mut types = Vec::new();
    for request in [libc::TIOCSTI, libc::TIOCLINUX] {
        types.push(vec![condition(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, request)?]);
    }
    conditional(libc::SYS_ioctl, types)?;
    Ok(rules)
}

fn condition(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> io::Result<SeccompCondition> {
    SeccompCondition::new(argument, length, operator, value).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_fits_into_the_kernel() {
        // An instruction has 8 bytes, and a program at most 4096 instructions.
        for program in programs().unwrap() {
            assert!(program.len() % 8 == 0 && program.len() / 8 <= 4096, "{}", program.len());
        }
    }
}
