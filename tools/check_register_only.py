#!/usr/bin/env python3
"""Proves that no C++ which runs while guest vectors are live touches a vector, x87 or opmask register.

usage: check_register_only.py BINARY   (veneer itself, with symbols)

Translated code leaves the guest's vector and x87 registers in the host's, also while it calls C++ (docs/engine.md, "The two kinds
of C++"). This disassembles the linked binary, starts from what translated code and the run loop call, follows direct calls and
tail calls and the indirect ones that are declared below, and stops where the registers have been saved
(BtVcpu::vectors_are_saved). Everything else it reaches may not name such a register, and may not call what is not in the binary.
What is allowed nevertheless stands below with its reason; an entry that nothing needs any more is an error, too.

Exit status: 0 when all is well, 1 with the chains of calls that are not.
"""
import re
import subprocess
import sys

CALLOUT = r"\(veneer::cpu::bt::BtVcpu&, veneer::cpu::bt::CalloutRecord const&\)(?: \[clone .*\])?$"

# Where code with live guest vectors begins: patterns of demangled names.
ROOTS = [
    r"^veneer::cpu::bt::entry_\w+\(",                 # what stubs.S calls
    r"^veneer::cpu::bt::BtVcpu::run_loop\(",          # between two blocks
    CALLOUT,                                          # what CalloutRecord::function can be
]

# From here on the registers are saved, or the process ends.
STOPS = {
    r"BtVcpu::vectors_are_saved<": "the registers are in s.xsave",
    r"^veneer::assertion_failed\(": "ends the process",
    r"^veneer_bt_enter$": "the way into translated code",
}

# Indirect calls: pattern of the caller, patterns of all that it can reach there. Targets are checked as well.
VECTOR_REGISTER = [r"^veneer_bt_(?:store|load)_(?:ymm|zmm|opmask|mmx)$"]
INDIRECT = {
    r"BtVcpu::callout\(": [CALLOUT],
    r"::callout_in_guest\(": [CALLOUT],
    r"BtVcpu::take_events(?:_under_svm)?\(": [r"^veneer::vm::Mainboard::interrupts\(", r"^veneer::devices::LocalApic::interrupt_pending\(",
                              r"^veneer::devices::LocalApic::nmi_pending\(", r"^veneer::devices::LocalApic::take_unhalt\("],
    # vector_registers.h: one register is stored or loaded, none other touched.
    r"::callout_gather\(": VECTOR_REGISTER,
    r"::callout_maskmov\(": VECTOR_REGISTER,
    r"::mask_value\(": VECTOR_REGISTER,
}

# Functions that touch such registers on purpose.
DELIBERATE = {
    r"BtVcpu::save_vectors\(": "puts the guest's registers into s.xsave, then gives C++ what the ABI promises",
    r"BtVcpu::load_vectors\(": "gives the guest its registers back",
    r"^veneer_bt_(?:store|load)_(?:ymm|zmm|opmask|mmx)$": "stores or loads the one register that the guest's instruction names",
    r"::callout_(?:fxsave|fxrstor|xsave|xrstor)\(": "these instructions store and load the guest's live registers",
    r"::callout_(?:fnstenv|fldenv|fnsave|frstor)\(": "the same for x87",
}

# What may be called outside the binary.
EXTERNAL = {
    "madvise": "a system call, which leaves vector registers alone, and nothing else",
    "_Unwind_Resume": "of destructors on the way of an exception: nobody throws here",
}

# A build with a sanitizer calls its runtime from everywhere. What comes back goes through sanitizer_calls.S, which saves
# the registers; the rest prints a finding and ends the process.
SANITIZER_STOPS = {
    r"^with_vectors_kept$": "saves the registers",
    r"^__(?:asan_report_\w+|ubsan_handle_(?!dynamic_type_cache_miss)\w+_abort|ubsan_handle_builtin_unreachable)@plt$":
        "ends the process",
    r"^__asan_stack_(?:malloc|free)_\d+@plt$": "with detect_stack_use_after_return=1 only, which is not the default",
}

REGISTER = re.compile(r"%(?:[xyz]?mm\d+|st\b|st\(|k[0-7]\b)")
# Without a register's name: x87 control, vector state as a whole.
STATE = re.compile(r"^(?:f(?!nstsw|nstcw|s\b)[a-z0-9]+|emms|vzero(?:upper|all)|x(?:save|rstor)\w*|v?ldmxcsr)$")
HEADER = re.compile(r"^([0-9a-f]+) <(.+)>:$")
LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
PREFIXES = {"notrack", "bnd", "lock", "rep", "repz", "repnz", "data16", "cs", "ds", "es", "fs", "gs", "ss"}
BRANCH_TARGET = re.compile(r"^([0-9a-f]+) <(.+)>$")


class Function:
    def __init__(self, address, name):
        self.address, self.name = address, name
        self.end = address
        self.vector = []     # "address: instruction" that names a register
        self.targets = []    # (address, text of the symbol) of calls and jumps out of it
        self.indirect = []   # "address: instruction" of indirect calls


def disassemble(binary):
    text = subprocess.run(["objdump", "-d", "-C", "--no-show-raw-insn", "-w", binary], capture_output=True, text=True,
                          check=True).stdout
    functions = {}
    current = None
    for line in text.splitlines():
        if header := HEADER.match(line):
            current = Function(int(header[1], 16), header[2])
            functions[current.address] = current
            continue
        parsed = LINE.match(line)
        if not parsed or current is None:
            continue
        address, mnemonic, operands = int(parsed[1], 16), parsed[2], parsed[3]
        while mnemonic in PREFIXES and operands:
            mnemonic, _, operands = operands.partition(" ")
            operands = operands.strip()
        operands = operands.split(" # ")[0].strip()
        current.end = address
        here = f"{address:x}: {mnemonic} {operands}"
        if REGISTER.search(operands) or STATE.match(mnemonic):
            current.vector.append(here)
        if mnemonic.startswith("call") or mnemonic.startswith("j"):
            target = BRANCH_TARGET.match(operands)
            if target:
                current.targets.append((int(target[1], 16), target[2]))
            elif operands.startswith("*"):
                # A jump through a register is a switch's table; a tail call goes through memory.
                if mnemonic.startswith("call") or "(" in operands:
                    current.indirect.append(here)
            else:
                sys.exit(f"check_register_only.py: {here} is a jump that it does not understand")
    return functions


def matching(table, name):
    return [pattern for pattern in table if re.search(pattern, name)]


class Check:
    def __init__(self, functions):
        self.functions = functions
        self.starts = sorted(functions)
        self.wrapped = {f.name.removeprefix("__wrap_") for f in functions.values() if f.name.startswith("__wrap_")}
        self.sanitized = bool(self.wrapped)
        self.came_from = {}
        self.problems = []
        self.used = set()

    def is_wrapped(self, function):
        """The runtime's own, reached from the wrapper that has seen to it that no guest vectors are live."""
        caller = self.came_from[function.address]
        return (function.name.split("@")[0] in self.wrapped and caller is not None
                and self.functions[caller].name.startswith("__wrap_"))

    def chain(self, address):
        names = []
        while address is not None:
            names.append(self.functions[address].name)
            address = self.came_from[address]
        return "\n      from ".join(names)

    def report(self, address, what):
        self.problems.append(f"{what}\n      in   {self.chain(address)}")

    def visit(self, address, caller, queue):
        if address not in self.came_from:
            self.came_from[address] = caller
            queue.append(address)

    def run(self):
        queue = []
        for pattern in ROOTS:
            found = [f for f in self.functions.values() if re.search(pattern, f.name)]
            if not found:
                self.problems.append(f"no function matches the root {pattern}")
            for function in found:
                self.visit(function.address, None, queue)
        while queue:
            self.look_at(self.functions[queue.pop()], queue)
        for table in (INDIRECT, DELIBERATE, EXTERNAL):
            for pattern in table:
                if pattern not in self.used:
                    self.problems.append(f"nothing needs the entry {pattern} any more: remove it")
        return self.problems

    def look_at(self, function, queue):
        if stops := matching(STOPS, function.name):
            self.used.update(stops)
            return
        if self.sanitized and (matching(SANITIZER_STOPS, function.name) or self.is_wrapped(function)):
            return
        if "@plt" in function.name:
            name = function.name.split("@")[0]
            if name in EXTERNAL:
                self.used.add(name)
            else:
                self.report(function.address, f"calls {name} of another library")
            return
        if function.vector:
            if allowed := matching(DELIBERATE, function.name):
                self.used.update(allowed)
            else:
                shown = "; ".join(function.vector[:3])
                self.report(function.address, f"{len(function.vector)} instructions on vector state: {shown}")
        declared = matching(INDIRECT, function.name)
        self.used.update(declared)  # also where the compiler makes it a jump, which looks like a switch's
        if function.indirect:
            if not declared:
                self.report(function.address, f"an indirect call that is not declared: {'; '.join(function.indirect[:3])}")
            for pattern in declared:
                for target in INDIRECT[pattern]:
                    found = [f for f in self.functions.values() if re.search(target, f.name)]
                    if not found:
                        self.problems.append(f"no function matches {target}, a target of {pattern}")
                    for f in found:
                        self.visit(f.address, function.address, queue)
        for address, text in function.targets:
            if function.address <= address <= function.end:
                continue
            if address in self.functions:
                self.visit(address, function.address, queue)
            elif not self.inside_a_known_function(address, function, queue):
                self.report(function.address, f"goes to {text}, which is no function")

    def inside_a_known_function(self, address, caller, queue):
        """A jump into the middle of a function: of a cold part back to its hot one."""
        import bisect
        at = bisect.bisect_right(self.starts, address) - 1
        if at < 0:
            return False
        function = self.functions[self.starts[at]]
        if not function.address <= address <= function.end:
            return False
        self.visit(function.address, caller.address, queue)
        return True


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    check = Check(disassemble(sys.argv[1]))
    problems = check.run()
    for problem in problems:
        print(problem)
    print(f"{len(check.came_from)} functions run while guest vectors are live, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
