/**
 * The default system-call filter: an allow-list in the manner Docker documents. What is not named fails with EPERM; clone3,
 * whose flags a filter cannot see, fails with ENOSYS, so that libraries fall back to clone. Further calls come with the
 * capability that guards them in the kernel. Names a runtime does not know are skipped by it.
 */
import { machine } from 'node:os'

interface Arg { index: number; value: number; valueTwo?: number; op: 'SCMP_CMP_EQ' | 'SCMP_CMP_NE' | 'SCMP_CMP_MASKED_EQ' }
interface Rule { names: string[]; action: string; errnoRet?: number; args?: Arg[] }
export interface Seccomp { defaultAction: string; defaultErrnoRet: number; architectures: string[]; syscalls: Rule[] }

const list = (text: string): string[] => text.trim().split(/\s+/)

const FILES = list(`
  access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
  fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr
  flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents
  getdents64 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl lchown lchown32 lgetxattr link
  linkat listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat
  newfstatat oldfstat oldlstat oldstat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read
  readahead readlink readlinkat readv removexattr removexattrat rename renameat renameat2 rmdir sendfile sendfile64 setxattr
  setxattrat splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs tee truncate truncate64 umask
  unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev name_to_handle_at cachestat
`)
const MEMORY = list(`
  brk get_mempolicy madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect
  mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages
`)
const PROCESSES = list(`
  alarm arch_prctl capget capset execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait futex_waitv
  futex_wake get_robust_list get_thread_area getcpu getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32
  getpgid getpgrp getpid getppid getpriority getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid gettid
  getuid getuid32 ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self modify_ldt nanosleep
  pause pidfd_getfd pidfd_open pidfd_send_signal prctl prlimit64 ptrace process_vm_readv process_vm_writev restart_syscall rseq
  rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
  rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
  sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
  sched_setscheduler sched_yield seccomp set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32
  setgid setgid32 setgroups setgroups32 setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32
  setreuid setreuid32 setrlimit setsid setuid setuid32 sigaction signal sigaltstack signalfd signalfd4 sigpending sigprocmask
  sigreturn sigsuspend sysinfo tgkill tkill ugetrlimit uname uretprobe vfork wait4 waitid waitpid
`)
const EVENTS_AND_TIME = list(`
  clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 epoll_create epoll_create1
  epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 getitimer gettimeofday io_cancel
  io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect poll ppoll ppoll_time64 pselect6
  pselect6_time64 select setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
  timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times adjtimex clock_adjtime
  clock_adjtime64 getrandom
`)
const NETWORK_AND_IPC = list(`
  accept accept4 bind connect getpeername getsockname getsockopt ipc listen mq_getsetattr mq_notify mq_open mq_timedreceive
  mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd recv recvfrom recvmmsg
  recvmmsg_time64 recvmsg semctl semget semop semtimedop semtimedop_time64 send sendmmsg sendmsg sendto setsockopt shmat shmctl
  shmdt shmget shutdown socketcall socketpair
`)

/** What only these machines have. */
const BY_MACHINE: Record<string, string[]> = {
  aarch64: list('arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2'),
  ppc64le: ['sync_file_range2', 'swapcontext'],
  s390x: list('s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr'),
}

/** Calls the kernel lets through only with a capability: allowed with it. */
const BY_CAPABILITY: Record<string, string[]> = {
  CAP_DAC_READ_SEARCH: ['open_by_handle_at'],
  CAP_SYS_ADMIN: list(`
    bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie lsm_get_self_attr lsm_list_modules
    lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname
    setns statmount syslog umount umount2 unshare
  `),
  CAP_SYS_BOOT: ['reboot'],
  CAP_SYS_CHROOT: ['chroot'],
  CAP_SYS_MODULE: list('delete_module init_module finit_module'),
  CAP_SYS_PACCT: ['acct'],
  CAP_SYS_PTRACE: list('kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace'),
  CAP_SYS_RAWIO: list('iopl ioperm'),
  CAP_SYS_TIME: list('settimeofday stime clock_settime clock_settime64'),
  CAP_SYS_TTY_CONFIG: ['vhangup'],
  CAP_SYS_NICE: list('get_mempolicy mbind set_mempolicy set_mempolicy_home_node'),
  CAP_SYSLOG: ['syslog'],
  CAP_BPF: ['bpf'],
  CAP_PERFMON: ['perf_event_open'],
}

/** Flags of clone that make namespaces: all CLONE_NEW* but those of threads. */
const NAMESPACE_FLAGS = 0x7e020000
const ENOSYS = 38
const EPERM = 1
const AF_VSOCK = 40

/**
 * Without x32, whose calls then end the process: distributions' kernels have it switched off, and to compile its rules would
 * be a third of the time that a start spends on this filter.
 */
const ARCHITECTURES: Record<string, string[]> = {
  x86_64: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86'],
  aarch64: ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'],
  s390x: ['SCMP_ARCH_S390X', 'SCMP_ARCH_S390'],
  ppc64le: ['SCMP_ARCH_PPC64LE'],
}

const profiles = new Map<string, Seccomp>()

/** The filter for a process with these capabilities. The same set gives the same object. */
export function defaultSeccomp(capabilities: string[]): Seccomp {
  const key = capabilities.join()
  const known = profiles.get(key)
  if (known !== undefined) return known
  const profile = build(new Set(capabilities))
  profiles.set(key, profile)
  return profile
}

function build(capabilities: Set<string>): Seccomp {
  const allowed = new Set([...FILES, ...MEMORY, ...PROCESSES, ...EVENTS_AND_TIME, ...NETWORK_AND_IPC, ...BY_MACHINE[machine()] ?? []])
  for (const [capability, names] of Object.entries(BY_CAPABILITY)) {
    if (capabilities.has(capability)) for (const n of names) allowed.add(n)
  }
  const syscalls: Rule[] = [{ names: [...allowed].sort(), action: 'SCMP_ACT_ALLOW' }]
  if (!capabilities.has('CAP_SYS_ADMIN')) {
    syscalls.push(
      { names: ['clone'], action: 'SCMP_ACT_ALLOW', args: [{ index: machine() === 's390x' ? 1 : 0, value: NAMESPACE_FLAGS, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }] },
      { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
    )
  }
  // Sockets of every family but the one that leads to a hypervisor's host.
  syscalls.push({ names: ['socket'], action: 'SCMP_ACT_ALLOW', args: [{ index: 0, value: AF_VSOCK, op: 'SCMP_CMP_NE' }] })
  // PER_LINUX, PER_LINUX32 with and without UNAME26, and the query.
  for (const value of [0x0, 0x8, 0x20000, 0x20008, 0xffffffff]) {
    syscalls.push({ names: ['personality'], action: 'SCMP_ACT_ALLOW', args: [{ index: 0, value, op: 'SCMP_CMP_EQ' }] })
  }
  return { defaultAction: 'SCMP_ACT_ERRNO', defaultErrnoRet: EPERM, architectures: ARCHITECTURES[machine()] ?? [], syscalls }
}
