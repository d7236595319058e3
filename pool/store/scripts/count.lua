-- Make changes to counters, one after the other: all of them, or none if a limit forbids one.
--
-- KEYS: for each change ap:{p}:count:<name>  STRING a whole number of 64 bits
-- ARGV: for each change  amount  when the counter is forgotten, in ms  its limit, or ""
-- Answers: -1 (all were made), or the place from 0 of the first change that its limit forbids; and
--   for each change what its counter is now. Only a place: that change would not fit into 64 bits.
--
-- Lua's numbers are exact up to 2^53 only. One of up to 15 digits is such a number, any other value
-- is {high, low}, high * 10^9 + low.
local BASE = 1000000000
local SMALL = 1000000000000000

local function normal(high, low)
  local carry = math.floor(low / BASE)
  return {high + carry, low - carry * BASE}
end

local function wide(number)
  return type(number) == 'table' and number or normal(0, number)
end

local function value(text)
  if #text <= 15 then
    return tonumber(text)
  end
  local sign, digits = string.match(text, '^(-?)(%d+)$')
  local high = tonumber(string.sub(digits, 1, -10)) or 0
  local low = tonumber(string.sub(digits, -9))
  if sign == '-' then
    return normal(-high, -low)
  end
  return {high, low}
end

local function sum(one, other)
  if type(one) == 'number' and type(other) == 'number' then
    local small = one + other
    if small < SMALL and small > -SMALL then
      return small
    end
  end
  one, other = wide(one), wide(other)
  return normal(one[1] + other[1], one[2] + other[2])
end

local function text(number)
  if type(number) == 'number' then
    return int(number)
  end
  local sign, high, low = '', number[1], number[2]
  if high < 0 then
    local positive = normal(-high, -low)
    sign, high, low = '-', positive[1], positive[2]
  end
  if high == 0 then
    return sign .. int(low)
  end
  return sign .. int(high) .. string.format('%09.0f', low)
end

local function above(one, other)
  if type(one) == 'number' and type(other) == 'number' then
    return one > other
  end
  one, other = wide(one), wide(other)
  return one[1] > other[1] or (one[1] == other[1] and one[2] > other[2])
end

local MIN, MAX = value('-9223372036854775808'), value('9223372036854775807')

-- what there is, by key, and what there will be
local before, after, left_ms = {}, {}, {}

local function answer(place, values)
  local found = {place}
  for i = 1, #KEYS do
    found[i + 1] = text(values[KEYS[i]])
  end
  return found
end

for i = 1, #KEYS do
  local kept = call('GET', KEYS[i])
  before[KEYS[i]] = kept and value(kept) or 0
end
for i, key in ipairs(KEYS) do
  local amount, limit = value(ARGV[3 * i - 2]), ARGV[3 * i]
  local old = after[key] or before[key]
  local new = sum(old, amount)
  if limit ~= '' and above(amount, 0) and above(new, value(limit)) then
    return answer(i - 1, before)
  end
  if type(new) == 'table' and (above(new, MAX) or above(MIN, new)) then
    return {i - 1}
  end
  left_ms[key] = tonumber(ARGV[3 * i - 1]) - now
  after[key] = left_ms[key] > 0 and new or 0
end
for key, left in pairs(left_ms) do
  if left > 0 then
    call('SET', key, text(after[key]), 'PX', int(left))
  else
    call('DEL', key)
  end
end
return answer(-1, after)
