-- Programs that a tracing JIT compiles in several ways, with answers that do not depend on it.
local bit = require("bit")
local ffi = require("ffi")

local function sieve(n)
  local composite, count = {}, 0
  for i = 2, n do
    if not composite[i] then
      count = count + 1
      for j = i * i, n, i do composite[j] = true end
    end
  end
  return count
end
print("primes", sieve(100000))

local x = 0
for n = 1, 40 do
  local f = loadstring("local s = 0 for i = 1, 20000 do s = (s + i * " .. n .. ") % 1000003 if s % 3 == 0 then s = s + " .. n .. " end end return s")
  x = (x + f()) % 1000003
end
print("many traces", x)

local h = 5381
for i = 1, 300000 do h = bit.bxor(bit.rol(h, 5), i * 33) end
print("bits", bit.tohex(h))

local buffer = ffi.new("uint8_t[?]", 65536)
for i = 0, 65535 do buffer[i] = (i * 7919) % 251 end
local sum = ffi.new("uint64_t", 1)
for round = 1, 20 do
  for i = 0, 65535 do sum = sum * 31ULL + buffer[i] end
end
print("ffi", tostring(sum))

local parts = {}
for i = 1, 20000 do parts[#parts + 1] = string.format("%d:%x", i, i * 7919) end
local text = table.concat(parts, ",")
local matches = 0
for _ in text:gmatch("%d+:%x*f%f[^%x]") do matches = matches + 1 end
print("strings", #text, matches)

local total = 0
local numbers = coroutine.wrap(function() for i = 1, 50000 do coroutine.yield(i) end end)
for i in numbers do
  total = total + i
  if i == 50000 then break end
end
print("coroutines", total)

local point = setmetatable({}, {__add = function(a, b) return (a.v or 0) + b end, __index = function(_, k) return #k end})
local acc = 0
for i = 1, 100000 do acc = (acc + (point + i) + point.name) % 1000003 end
print("metatables", acc)

local ok, message = pcall(function() local t = nil; return t.x end)
print("errors", ok, message:match("attempt to index") ~= nil)

local s = 0.0
for i = 1, 200000 do s = s + (i % 1024) * 0.5 end
print("floats", string.format("%.1f", s))

local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
print("calls", fib(25))
