// Bits and numbers of the virtio network device (Virtio 1.2 5.1).
#pragma once

#include <cstdint>

namespace veneer::devices {

// Feature bits (5.1.3)
inline constexpr unsigned NET_F_CSUM = 0;
inline constexpr unsigned NET_F_GUEST_CSUM = 1;
inline constexpr unsigned NET_F_CTRL_GUEST_OFFLOADS = 2;
inline constexpr unsigned NET_F_MTU = 3;
inline constexpr unsigned NET_F_MAC = 5;
inline constexpr unsigned NET_F_GUEST_TSO4 = 7;
inline constexpr unsigned NET_F_GUEST_TSO6 = 8;
inline constexpr unsigned NET_F_GUEST_ECN = 9;
inline constexpr unsigned NET_F_GUEST_UFO = 10;
inline constexpr unsigned NET_F_HOST_TSO4 = 11;
inline constexpr unsigned NET_F_HOST_TSO6 = 12;
inline constexpr unsigned NET_F_HOST_ECN = 13;
inline constexpr unsigned NET_F_HOST_UFO = 14;
inline constexpr unsigned NET_F_MRG_RXBUF = 15;
inline constexpr unsigned NET_F_STATUS = 16;
inline constexpr unsigned NET_F_CTRL_VQ = 17;
inline constexpr unsigned NET_F_CTRL_RX = 18;
inline constexpr unsigned NET_F_CTRL_RX_EXTRA = 20;
inline constexpr unsigned NET_F_GUEST_ANNOUNCE = 21;
inline constexpr unsigned NET_F_MQ = 22;
inline constexpr unsigned NET_F_CTRL_MAC_ADDR = 23;

// Configuration status (5.1.4)
inline constexpr std::uint16_t NET_S_LINK_UP = 1;
inline constexpr std::uint16_t NET_S_ANNOUNCE = 2;

// Header (5.1.6)
inline constexpr std::uint8_t NET_HDR_F_NEEDS_CSUM = 1;
inline constexpr std::uint8_t NET_HDR_F_DATA_VALID = 2;
inline constexpr std::uint8_t NET_HDR_GSO_NONE = 0;
inline constexpr std::uint8_t NET_HDR_GSO_TCPV4 = 1;
inline constexpr std::uint8_t NET_HDR_GSO_UDP = 3;
inline constexpr std::uint8_t NET_HDR_GSO_TCPV6 = 4;
inline constexpr std::uint8_t NET_HDR_GSO_ECN = 0x80;

// Control commands (5.1.6.5): class, command
inline constexpr std::uint8_t NET_CTRL_RX = 0;
inline constexpr std::uint8_t NET_CTRL_RX_PROMISC = 0, NET_CTRL_RX_ALLMULTI = 1, NET_CTRL_RX_ALLUNI = 2,
                              NET_CTRL_RX_NOMULTI = 3, NET_CTRL_RX_NOUNI = 4, NET_CTRL_RX_NOBCAST = 5;
inline constexpr std::uint8_t NET_CTRL_MAC = 1;
inline constexpr std::uint8_t NET_CTRL_MAC_TABLE_SET = 0, NET_CTRL_MAC_ADDR_SET = 1;
inline constexpr std::uint8_t NET_CTRL_ANNOUNCE = 3;
inline constexpr std::uint8_t NET_CTRL_ANNOUNCE_ACK = 0;
inline constexpr std::uint8_t NET_CTRL_MQ = 4;
inline constexpr std::uint8_t NET_CTRL_MQ_VQ_PAIRS_SET = 0;
inline constexpr std::uint8_t NET_CTRL_GUEST_OFFLOADS = 5;
inline constexpr std::uint8_t NET_CTRL_GUEST_OFFLOADS_SET = 0;
inline constexpr std::uint8_t NET_OK = 0, NET_ERR = 1;

}  // namespace veneer::devices
