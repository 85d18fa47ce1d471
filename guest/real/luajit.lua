-- LuaJIT: traces over tables, closures, coroutines, strings, 64-bit numbers and C data. luajit.expected has the answers that the
-- interpreter alone gives. With a number as argument: that many rounds of all, each of which must say the same.
local ffi, bit = require("ffi"), require("bit")

local function sieve(n)
  local flags, count = ffi.new("uint8_t[?]", n + 1), 0
  for i = 2, n do
    if flags[i] == 0 then
      count = count + 1
      for j = i * i, n, i do flags[j] = 1 end
    end
  end
  return count
end

local function spectral(n)
  local function a(i, j) return 1 / ((i + j) * (i + j + 1) / 2 + i + 1) end
  local function times(x, y, f)
    for i = 0, n - 1 do
      local sum = 0
      for j = 0, n - 1 do sum = sum + x[j] * f(i, j) end
      y[i] = sum
    end
  end
  local u, v, t = {}, {}, {}
  for i = 0, n - 1 do u[i] = 1 end
  local function flipped(i, j) return a(j, i) end
  for _ = 1, 10 do
    times(u, t, a) times(t, v, flipped) times(v, t, a) times(t, u, flipped)
  end
  local uv, vv = 0, 0
  for i = 0, n - 1 do uv = uv + u[i] * v[i] vv = vv + v[i] * v[i] end
  return string.format("%.9f", math.sqrt(uv / vv))
end

local function fannkuch(n)
  local p, q, s, sign, most, sum = {}, {}, {}, 1, 0, 0
  for i = 1, n do p[i], q[i], s[i] = i, i, i end
  while true do
    local q0 = p[1]
    if q0 ~= 1 then
      for i = 2, n do q[i] = p[i] end
      local flips = 1
      while true do
        local qq = q[q0]
        if qq == 1 then
          sum = sum + sign * flips
          if flips > most then most = flips end
          break
        end
        q[q0] = q0
        if q0 >= 4 then
          local i, j = 2, q0 - 1
          repeat q[i], q[j] = q[j], q[i]; i = i + 1; j = j - 1 until i >= j
        end
        q0 = qq; flips = flips + 1
      end
    end
    if sign == 1 then
      p[1], p[2] = p[2], p[1]; sign = -1
    else
      p[2], p[3] = p[3], p[2]; sign = 1
      for i = 3, n do
        local sx = s[i]
        if sx ~= 1 then s[i] = sx - 1; break end
        if i == n then return sum .. " " .. most end
        s[i] = i
        local t = p[1]; for j = 1, i do p[j] = p[j + 1] end; p[i + 1] = t
      end
    end
  end
end

local function mandelbrot(n)
  local hash = 0
  for y = 0, n - 1 do
    for x = 0, n - 1 do
      local cr, ci, zr, zi, k = 2 * x / n - 1.5, 2 * y / n - 1, 0, 0, 0
      while k < 50 and zr * zr + zi * zi < 4 do zr, zi, k = zr * zr - zi * zi + cr, 2 * zr * zi + ci, k + 1 end
      hash = bit.bxor(bit.rol(hash, 5), k)
    end
  end
  return bit.tohex(hash)
end

ffi.cdef [[ typedef struct { uint64_t state; int32_t calls; double last; } generator_t; int abs(int); size_t strlen(const char *); ]]

local function cdata(n)
  local generator = ffi.new("generator_t", 88172645463325252ULL)
  for i = 1, n do
    local s = generator.state
    s = bit.bxor(s, bit.lshift(s, 13)); s = bit.bxor(s, bit.rshift(s, 7)); s = bit.bxor(s, bit.lshift(s, 17))
    generator.state, generator.calls, generator.last = s, generator.calls + ffi.C.abs(-1), tonumber(s % 1000ULL)
  end
  return tostring(generator.state) .. " " .. generator.calls .. " " .. generator.last .. " " .. tostring(ffi.C.strlen("seven  "))
end

local function coroutines(n)
  local function numbers() for i = 2, math.huge do coroutine.yield(i) end end
  local function filter(prime, source)
    return coroutine.wrap(function()
      while true do
        local i = source()
        if i % prime ~= 0 then coroutine.yield(i) end
      end
    end)
  end
  local source, prime = coroutine.wrap(numbers), 0
  for _ = 1, n do prime = source(); source = filter(prime, source) end
  return prime
end

local function strings(n)
  local words, count, length = {}, 0, 0
  for i = 1, n do
    local key = ("k%d"):format(i * 7919 % 5003)
    words[key] = (words[key] or 0) + 1
    if i % 1000 == 0 then words = setmetatable({}, { __index = words }) end
    local text = key:rep(3, "-"):upper():reverse():gsub("K", "<%0>")
    length = length + #text
    if not pcall(function() if i % 17 == 0 then error(key) end end) then count = count + 1 end
  end
  return count .. " " .. length
end

-- Loops with branches that change their minds: many side traces, some thrown away.
local function branches(n)
  local sum, objects = 0, {}
  for i = 1, 64 do objects[i] = ({ i, tostring(i), i + 0.5, { i }, function() return i end })[i % 5 + 1] end
  for i = 1, n do
    local o = objects[i % 64 + 1]
    local kind = type(o)
    if kind == "number" then sum = sum + o
    elseif kind == "string" then sum = sum + tonumber(o)
    elseif kind == "table" then sum = sum + o[1]
    else sum = sum + o() end
    if i % 1009 == 0 then objects[i % 64 + 1] = i % 64 + 1 end
  end
  return sum
end

local function all()
  return table.concat({ "sieve " .. sieve(1000000), "spectral " .. spectral(100), "fannkuch " .. fannkuch(8), "mandelbrot " .. mandelbrot(200),
    "cdata " .. cdata(300000), "coroutines " .. coroutines(300), "strings " .. strings(50000), "branches " .. branches(1000000) }, "\n")
end

local first = all()
for _ = 2, tonumber(arg[1]) or 1 do
  collectgarbage()
  assert(all() == first)
end
print(first)
