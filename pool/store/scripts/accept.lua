-- Keep a new turn, in order; make its session if it is new; claim the session if it is free.
--
-- KEYS: the session's, and
--  10 the turn  11 what it has besides
--  12 ap:{p}:index:<tenant>  ZSET  session id = when it was made, in microseconds
--  13 ap:{p}:tenants         SET   tenants that have an index
-- ARGV: 1 <tenant>:<session id>  2 owner ("": nobody)  3 an epoch that is kept is not before this
--   4 a row: turn id, tenant, session id; agent whose state is asked for, or ""; whether it is refused
--   if the session is busy; idempotency key, or ""; a turn of this key whose record is gone, or ""
--   5 the turn's record  6 digest of the request
-- Answers: again, epoch of the lease or "", holder, end of the log, the turn, state,
--                 1 if other turns are unfinished too
--          used, "", holder, end of the log, the key's value
--          busy, how many turns are unfinished
--          new, epoch of the lease or "", holder, end of the log, the turn's number, state,
--               1 if unfinished turns were claimed with it
local TURN, EXTRA, INDEX, TENANTS = KEYS[10], KEYS[11], KEYS[12], KEYS[13]
local SINCE, RECORD, DIGEST = ARGV[3], ARGV[5], ARGV[6]
local TURN_ID, TENANT, ID, AGENT, REJECT, KEY, GONE = row()

local accepted, queue, last_owner, epoch, held, end_epoch, end_seq =
  fields('n', 'q', 'o', 'e', 'h', 'le', 'ls')
local exists = accepted
if not exists then
  accepted, last_owner, epoch, held, end_epoch, end_seq, queue = 0, '', '0', '0', '0', '0', ''
end
-- an owner that was silent still holds what nobody took
local mine = OWNER ~= '' and last_owner == OWNER and held == '1'
local holder = mine and OWNER or holder_of(last_owner, held)

-- if it was given to whoever asks, and asked for
local function state_if(given)
  return given and AGENT ~= '' and states().loaded(EXTRA, AGENT, fields('s', 'd'))
end

if KEY ~= '' then
  local used = fields('k:' .. KEY)
  local used_by = used and string.sub(used, 17)
  if used_by and used_by ~= GONE and used_by ~= TURN_ID then
    return {'used', '', holder, end_epoch, end_seq, used}
  end
end
if REJECT and queue ~= '' and call('EXISTS', TURN) == 0 then
  return {'busy', #listed(queue)}
end
local number = accepted + 1
-- only where the session is given with it, it may have begun
local granted_now = OWNER ~= '' and holder == ''
local kept = (granted_now and 'U' or 'P') .. NOWHERE .. struct.pack('>I4', number) .. RECORD
if not exists then
  -- the first write of every step is one that a full Redis refuses: then nothing is done
  call('SET', TURN, kept)
elseif not call('SET', TURN, kept, 'NX') then
  kept = call('GET', TURN)
  mine = mine and not ended(kept)
  local others = mine and queue ~= TURN_ID
  return {'again', mine and epoch or '', holder, end_epoch, end_seq, kept, state_if(mine),
    others and 1 or 0}
elseif queue == '' then
  call('PERSIST', SESSION)
end
if not exists then
  clear()
  local newest = call('ZRANGE', INDEX, -1, -1, 'WITHSCORES')[2]
  call('ZADD', INDEX, math.max(now_us, (tonumber(newest) or 0) + 1), ID)
  call('SADD', TENANTS, TENANT)
  call('HSET', SESSION, 'n', number, 'q', '', 'c', now_text, 'r', now_text)
end
call('RPUSH', IDS, TURN_ID)
local others = queue ~= ''
queue = others and queue .. ' ' .. TURN_ID or TURN_ID

local granted = ''
if holder == '' and OWNER ~= '' then
  local keeps = held == '0' and last_owner == OWNER and tonumber(epoch) >= tonumber(SINCE)
  granted = keeps and epoch or later_epoch(epoch, SINCE)
  holder, last_owner, epoch, held = OWNER, OWNER, granted, '1'
  if end_seq == '0' then
    end_epoch = granted
  end
  call('HSET', WORK, NAME, OWNER)
elseif holder == '' then
  offer()
  if held == '1' then
    -- it is still its holder's, should that come to life again
    call('HSET', WORK, NAME, last_owner)
  end
elseif holder ~= OWNER then
  call('RPUSH', INBOX, '+' .. number .. ':' .. TURN_ID)
  call('HINCRBY', SESSION, 'l', 1)
  tell(holder, 'inbox')
end
call('HSET', SESSION, 'n', number, 'u', now_text, 'q', queue, 'o', last_owner, 'e', epoch, 'h', held,
  'le', end_epoch, 'ls', end_seq)
if KEY ~= '' then
  call('HSET', SESSION, 'k:' .. KEY, DIGEST .. TURN_ID)
end
if OWNER ~= '' then
  seen(OWNER)
end
others = others and granted ~= ''
return {'new', granted, holder, end_epoch, end_seq, number, state_if(granted ~= ''), others and 1 or 0}
