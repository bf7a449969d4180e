//! Programs that try what must fail: a few hundred bytes each, so that they run in any image, whatever else it lacks.
//!
//! An ELF file with one segment: header, data, machine code that makes system calls and exits with a verdict. x86-64 and
//! AArch64; source: the ELF-64 object file format, and the processors' manuals.

use super::seccomp;

/// Exit code of a program whose every attempt failed as it must; others number the attempt that did not.
pub const ALL_REFUSED: i32 = 0;

/// Exit codes of [`memory`]: where it got all that it took, and where not even addresses were given for so much.
pub const ALL_TAKEN: i32 = 0;
pub const NO_ADDRESS: i32 = 1;

const BASE: u32 = 0x40_0000;
const HEADERS: u32 = 64 + 56;
const CLONE_NEWUSER: u32 = 0x1000_0000;
const AF_INET: u32 = 2;
const STREAM: u32 = 1;
const DATAGRAM: u32 = 2;
const SIGCHLD: u32 = 17;

/// Calls that a build never needs. Without a filter, and as nobody, the first and the last fail for their arguments.
pub fn forbidden_calls() -> Option<Vec<u8>> {
    let mut program = Program::new(&[])?;
    for (name, first) in [("add_key", 0), ("unshare", CLONE_NEWUSER), ("mount", 0), ("bpf", 0), ("io_uring_setup", 0)] {
        program.call(name, [Value::Number(first), Value::Number(0), Value::Number(0)])?;
        program.exit_unless(Answer::NotPermitted);
    }
    Some(program.finish())
}

/// Connections to the network (nothing is sent: 192.0.2.1 is for documentation), and to `port` of the host's loopback.
pub fn connections(port: u16) -> Option<Vec<u8>> {
    let address = |ip: [u8; 4], port: u16| {
        let family = AF_INET.to_le_bytes();
        [&family[..2], &port.to_be_bytes(), &ip, &[0; 8]].concat()
    };
    let data = [address([192, 0, 2, 1], 9), address([127, 0, 0, 1], port)].concat();
    let mut program = Program::new(&data)?;
    for (kind, place) in [(DATAGRAM, 0), (STREAM, 16)] {
        program.call("socket", [Value::Number(AF_INET), Value::Number(kind), Value::Number(0)])?;
        program.call("connect", [Value::Result, Value::Address(place), Value::Number(16)])?;
        program.exit_unless(Answer::Error);
    }
    Some(program.finish())
}

/// Starts processes, up to `most`, that wait for ever.
pub fn processes(most: u32) -> Option<Vec<u8>> {
    let mut program = Program::new(&[])?;
    for _ in 0..most {
        let zero = Value::Number(0);
        program.call("clone", [Value::Number(SIGCHLD), zero, zero])?;
        program.exit_if_error()?;
        program.wait_if_zero()?;
    }
    program.exit(1)?;
    Some(program.finish())
}

/// Takes so much memory, touches each page of it, holds it for some seconds, and ends well.
///
/// Where a limit is kept by looking now and then, somebody has to have the time to look.
pub fn memory(bytes: u32) -> Option<Vec<u8>> {
    const SECONDS: u64 = 5;
    let pause = [SECONDS.to_le_bytes(), [0; 8]].concat();
    let mut program = Program::new(&pause)?;
    program.take_memory(bytes)?;
    program.call("ppoll", [Value::Number(0), Value::Number(0), Value::Address(0)])?;
    Some(program.finish())
}

/// What a call is given.
#[derive(Clone, Copy)]
enum Value {
    Number(u32),
    /// A place in the data.
    Address(u32),
    /// What the call before it answered.
    Result,
}

/// What a call must answer.
#[derive(Clone, Copy)]
enum Answer {
    /// `EPERM`, which is 1.
    NotPermitted,
    Error,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Machine {
    X86,
    Arm,
}

struct Program {
    machine: Machine,
    data: Vec<u8>,
    code: Vec<u8>,
    attempts: u32,
}

impl Program {
    /// `None`: this machine's code is not known here.
    fn new(data: &[u8]) -> Option<Self> {
        let machine = match std::env::consts::ARCH {
            "x86_64" => Machine::X86,
            "aarch64" => Machine::Arm,
            _ => return None,
        };
        Some(Self { machine, data: data.to_vec(), code: Vec::new(), attempts: 0 })
    }

    /// A call with three arguments; a fourth and a fifth are zero.
    fn call(&mut self, name: &str, values: [Value; 3]) -> Option<()> {
        let number = u32::try_from(seccomp::number_here(name)?).ok()?;
        // The result, the first argument's register and the others', in order.
        for (place, value) in values.into_iter().enumerate() {
            let number = match value {
                Value::Number(number) => number,
                Value::Address(place) => BASE + HEADERS + place,
                Value::Result => {
                    if self.machine == Machine::X86 {
                        self.code.extend([0x89, 0xc7]); // mov edi, eax
                    }
                    continue;
                }
            };
            self.load(place, number);
        }
        match self.machine {
            Machine::X86 => {
                self.code.extend([0x45, 0x31, 0xd2, 0x45, 0x31, 0xc0]); // xor r10d, r10d; xor r8d, r8d
                self.code.push(0xb8); // mov eax, number
                self.code.extend(number.to_le_bytes());
                self.code.extend([0x0f, 0x05]); // syscall
            }
            Machine::Arm => {
                self.load(3, 0);
                self.load(4, 0);
                self.load(8, number);
                self.arm(0xd400_0001); // svc #0
            }
        }
        Some(())
    }

    /// Puts a number into the register of an argument.
    fn load(&mut self, place: usize, number: u32) {
        match self.machine {
            Machine::X86 => {
                // mov edi / esi / edx, number
                self.code.push([0xbf, 0xbe, 0xba].get(place).copied().unwrap_or(0xba));
                self.code.extend(number.to_le_bytes());
            }
            Machine::Arm => {
                let register = u32::try_from(place).unwrap_or_default();
                self.arm(0x5280_0000 | ((number & 0xffff) << 5) | register); // movz
                self.arm(0x72a0_0000 | ((number >> 16) << 5) | register); // movk, shifted by 16
            }
        }
    }

    /// Ends with the attempt's number unless the last call answered so.
    fn exit_unless(&mut self, answer: Answer) {
        self.attempts += 1;
        let exit = self.part(|part| part.exit(self.attempts));
        match (self.machine, answer) {
            (Machine::X86, Answer::NotPermitted) => self.code.extend([0x83, 0xf8, 0xff, 0x74]), // cmp eax, -1; je
            (Machine::X86, Answer::Error) => self.code.extend([0x85, 0xc0, 0x78]),              // test eax, eax; js
            (Machine::Arm, Answer::NotPermitted) => {
                self.arm(0x3100_041f); // cmn w0, #1
                self.arm(0x5400_0000 | (words_past(&exit) << 5)); // b.eq
            }
            (Machine::Arm, Answer::Error) => self.arm(0x37f8_0000 | (words_past(&exit) << 5)), // tbnz w0, #31
        }
        self.skip(&exit);
    }

    /// Ends well if the last call answered with an error.
    fn exit_if_error(&mut self) -> Option<()> {
        let exit = self.part(|part| part.exit(0));
        match self.machine {
            Machine::X86 => self.code.extend([0x85, 0xc0, 0x79]), // test eax, eax; jns
            Machine::Arm => self.arm(0x36f8_0000 | (words_past(&exit) << 5)), // tbz w0, #31
        }
        self.skip(&exit);
        Some(())
    }

    /// Waits for ever if the last call answered zero: we are the new process.
    fn wait_if_zero(&mut self) -> Option<()> {
        let zero = Value::Number(0);
        let wait = self.part(|part| part.call("ppoll", [zero, zero, zero]));
        match self.machine {
            Machine::X86 => self.code.extend([0x85, 0xc0, 0x75]), // test eax, eax; jne
            Machine::Arm => self.arm(0x3500_0000 | (words_past(&wait) << 5)), // cbnz w0
        }
        self.skip(&wait);
        Some(())
    }

    /// Maps private memory and writes to each page of it; ends with [`NO_ADDRESS`] where that is refused.
    fn take_memory(&mut self, bytes: u32) -> Option<()> {
        const READ_AND_WRITE: u32 = 3;
        const PRIVATE_AND_ANONYMOUS: u32 = 0x22;
        const PAGE: u32 = 4096;
        let number = u32::try_from(seccomp::number_here("mmap")?).ok()?;
        let refused = self.part(|part| part.exit(NO_ADDRESS.unsigned_abs()));
        for (place, value) in [0, bytes, READ_AND_WRITE].into_iter().enumerate() {
            self.load(place, value);
        }
        match self.machine {
            Machine::X86 => {
                self.code.extend([0x41, 0xba]); // mov r10d, flags
                self.code.extend(PRIVATE_AND_ANONYMOUS.to_le_bytes());
                self.code.extend([0x49, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff]); // mov r8, -1
                self.code.extend([0x45, 0x31, 0xc9]); // xor r9d, r9d
                self.code.push(0xb8); // mov eax, number
                self.code.extend(number.to_le_bytes());
                self.code.extend([0x0f, 0x05]); // syscall
                self.code.extend([0x48, 0x85, 0xc0, 0x79]); // test rax, rax; jns
                self.skip(&refused);
                self.code.push(0xb9); // mov ecx, pages
                self.code.extend((bytes / PAGE).to_le_bytes());
                self.code.extend([0xc6, 0x00, 0x01]); // mov byte [rax], 1
                self.code.extend([0x48, 0x05, 0x00, 0x10, 0x00, 0x00]); // add rax, 4096
                self.code.extend([0xff, 0xc9, 0x75, 0xf3]); // dec ecx; jnz, to the mov
            }
            Machine::Arm => {
                self.load(3, PRIVATE_AND_ANONYMOUS);
                self.arm(0x9280_0004); // mov x4, #-1
                self.load(5, 0);
                self.load(8, number);
                self.arm(0xd400_0001); // svc #0
                self.arm(0xb6f8_0000 | (words_past(&refused) << 5)); // tbz x0, #63
                self.skip(&refused);
                self.load(1, 1);
                self.load(2, bytes / PAGE);
                self.arm(0x3900_0001); // strb w1, [x0]
                self.arm(0x9140_0400); // add x0, x0, #4096
                self.arm(0x7100_0442); // subs w2, w2, #1
                self.arm(0x54ff_ffa1); // b.ne, to the strb
            }
        }
        Some(())
    }

    fn exit(&mut self, code: u32) -> Option<()> {
        let zero = Value::Number(0);
        self.call("exit_group", [Value::Number(code), zero, zero])
    }

    /// Code that is jumped over.
    fn part(&self, write: impl FnOnce(&mut Self) -> Option<()>) -> Vec<u8> {
        let mut part = Self { machine: self.machine, data: Vec::new(), code: Vec::new(), attempts: 0 };
        // Its calls are known on every machine that the program itself could be begun for.
        let _ = write(&mut part);
        part.code
    }

    fn skip(&mut self, part: &[u8]) {
        if self.machine == Machine::X86 {
            self.code.push(u8::try_from(part.len()).unwrap_or(0));
        }
        self.code.extend(part);
    }

    fn arm(&mut self, instruction: u32) {
        self.code.extend(instruction.to_le_bytes());
    }

    fn finish(mut self) -> Vec<u8> {
        let _ = self.exit(0);
        let start = HEADERS + u32::try_from(self.data.len()).unwrap_or_default();
        let length = u64::from(start) + self.code.len() as u64;
        let machine: u16 = if self.machine == Machine::X86 { 62 } else { 183 };
        let mut file = Vec::new();
        file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        file.extend(2u16.to_le_bytes()); // a program
        file.extend(machine.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(u64::from(BASE + start).to_le_bytes()); // where it begins
        file.extend(64u64.to_le_bytes()); // the segment's header follows
        file.extend([0; 8]);
        file.extend([0; 4]);
        for number in [64u16, 56, 1, 64, 0, 0] {
            file.extend(number.to_le_bytes());
        }
        file.extend(1u32.to_le_bytes()); // to be loaded,
        file.extend(5u32.to_le_bytes()); // to be read and executed
        file.extend([0; 8]);
        for number in [u64::from(BASE), u64::from(BASE), length, length, 0x1000] {
            file.extend(number.to_le_bytes());
        }
        file.extend(&self.data);
        file.extend(&self.code);
        file
    }
}

/// From a branch to behind `part`, in instructions.
fn words_past(part: &[u8]) -> u32 {
    u32::try_from(part.len() / 4 + 1).unwrap_or_default()
}
