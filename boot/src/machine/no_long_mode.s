# What is left to do on a CPU without long mode, in 32-bit code: say so on the serial port and on the screen, then
# leave by the door that the command line names, or stop. ESI = information of the loader, EDI = its magic number.

.set STATUS_CANNOT_BOOT, 102

.text
.code32
no_long_mode:
    mov ebp, esi
    # COM1 to 115200 8n1.
    mov dx, 0x3fb
    mov al, 0x80
    out dx, al
    mov dx, 0x3f8
    mov al, 1
    out dx, al
    inc dx
    mov al, 0
    out dx, al
    mov dx, 0x3fb
    mov al, 3
    out dx, al

    mov ebx, 0xb8000
    mov esi, offset no_long_mode_text
1:  lodsb
    test al, al
    jz 4f
    mov ah, al
    mov dx, 0x3fd
    mov ecx, 100000                         # a machine without the port must not hang here
2:  in al, dx
    test al, 0x20
    jnz 3f
    dec ecx
    jnz 2b
3:  mov dx, 0x3f8
    mov al, ah
    out dx, al
    cmp al, 0x20
    jb 1b
    mov [ebx], al
    mov byte ptr [ebx + 1], 0x4f
    add ebx, 2
    jmp 1b

    # Everything must have left the port before an emulator ends.
4:  mov dx, 0x3fd
    mov ecx, 100000
8:  in al, dx
    test al, 0x40
    jnz 4f
    dec ecx
    jnz 8b

    # The command line: Multiboot1 points to it; Multiboot2 has it somewhere in its tags, so all of them are searched.
4:  cmp edi, 0x36d76289
    je 5f
    cmp edi, 0x2badb002
    jne 9f
    test dword ptr [ebp], 4
    jz 9f
    mov ebx, [ebp + 16]
    mov ecx, 4096
    jmp 6f
5:  mov ebx, ebp
    mov ecx, [ebp]
6:  mov esi, offset no_long_mode_exit_isa
    call find_text
    jc 7f
    mov al, STATUS_CANNOT_BOOT
    out 0xf4, al
7:  mov esi, offset no_long_mode_exit_bochs
    call find_text
    jc 9f
    mov esi, offset no_long_mode_shutdown
    mov dx, 0x8900
    mov ecx, 8
    rep outsb
9:  hlt
    jmp 9b

# Carry is clear if the zero-terminated text at ESI is somewhere in the ECX bytes at EBX. Clobbers EAX, EDX, EDI.
find_text:
    push ecx
    push ebx
1:  test ecx, ecx
    jz 4f
    xor edx, edx
2:  mov al, [esi + edx]
    test al, al
    jz 3f
    cmp al, [ebx + edx]
    jne 5f
    inc edx
    jmp 2b
3:  pop ebx
    pop ecx
    clc
    ret
5:  inc ebx
    dec ecx
    jmp 1b
4:  pop ebx
    pop ecx
    stc
    ret

.section .rodata.no_long_mode, "a"
no_long_mode_text:
    .asciz "\r\ndragonet: cannot boot: this CPU has no 64-bit long mode\r\ndragonet: exit status 102\r\n"
no_long_mode_exit_isa:
    .asciz "exit=isa:0xf4"
no_long_mode_exit_bochs:
    .asciz "exit=bochs"
no_long_mode_shutdown:
    .ascii "Shutdown"
.text
.code64
