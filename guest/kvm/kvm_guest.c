// A hypervisor for one small guest, by /dev/kvm: the guest counts, talks to a port and to memory that is not there, halts.
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum { MEMORY = 0x10000, CODE = 0x1000, SUM = 0x2000, DEVICE_SEGMENT = 0x2000 };

// 16-bit code. The loop runs long enough for interrupts of the host to come into it.
static const unsigned char code[] = {
    0x66, 0x31, 0xc0,                    // xor eax, eax
    0x66, 0xb9, 0x40, 0x42, 0x0f, 0x00,  // mov ecx, 1000000
    0x66, 0x01, 0xc8,                    // add eax, ecx
    0x66, 0x49,                          // dec ecx
    0x75, 0xf9,                          // jnz
    0x66, 0xa3, 0x00, 0x20,              // mov [SUM], eax
    0xe6, 0xe9,                          // out 0xe9, al
    0xe4, 0x60,                          // in al, 0x60
    0xb9, 0x00, 0x20,                    // mov cx, DEVICE_SEGMENT
    0x8e, 0xd9,                          // mov ds, cx
    0xa2, 0x34, 0x00,                    // mov [0x34], al
    0xf4,                                // hlt
};

static int failed(const char *what) {
  perror(what);
  return 1;
}

int main(void) {
  const int kvm = open("/dev/kvm", O_RDWR);
  if (kvm < 0) return failed("/dev/kvm");
  const int vm = ioctl(kvm, KVM_CREATE_VM, 0L);
  if (vm < 0) return failed("KVM_CREATE_VM");
  unsigned char *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return failed("mmap");
  memcpy(memory + CODE, code, sizeof code);
  struct kvm_userspace_memory_region region = {.memory_size = MEMORY, .userspace_addr = (unsigned long)memory};
  if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0) return failed("KVM_SET_USER_MEMORY_REGION");
  const int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0L);
  if (vcpu < 0) return failed("KVM_CREATE_VCPU");
  const int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0L);
  struct kvm_run *run = mmap(NULL, (unsigned)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  if (run == MAP_FAILED) return failed("mmap of the vCPU");
  struct kvm_sregs special;
  if (ioctl(vcpu, KVM_GET_SREGS, &special) < 0) return failed("KVM_GET_SREGS");
  special.cs.base = special.cs.selector = 0;
  if (ioctl(vcpu, KVM_SET_SREGS, &special) < 0) return failed("KVM_SET_SREGS");
  struct kvm_regs registers = {.rip = CODE, .rflags = 2};
  if (ioctl(vcpu, KVM_SET_REGS, &registers) < 0) return failed("KVM_SET_REGS");
  for (;;) {
    if (ioctl(vcpu, KVM_RUN, 0L) < 0) return failed("KVM_RUN");
    unsigned char *data = (unsigned char *)run + run->io.data_offset;
    switch (run->exit_reason) {
      case KVM_EXIT_IO:
        if (run->io.direction == KVM_EXIT_IO_IN) *data = 0x5a;
        else printf("port %x: %x\n", run->io.port, *data);
        break;
      case KVM_EXIT_MMIO:
        printf("address %llx: %x\n", run->mmio.phys_addr, run->mmio.data[0]);
        break;
      case KVM_EXIT_HLT: {
        unsigned sum;
        memcpy(&sum, memory + SUM, sizeof sum);
        printf("sum %u\n", sum);
        return 0;
      }
      default:
        printf("exit %u, hardware %llx\n", run->exit_reason, run->hw.hardware_exit_reason);
        return 1;
    }
  }
}
