-- Keep a new turn, in order; make its session if it is new; claim the session if it is free.
--
-- KEYS: the session's, and
--  10 ap:{p}:index:<tenant>  ZSET  session id = when it was made, in microseconds
--  11 ap:{p}:tenants         SET   tenants that have an index
--  12 the turn  13 what it has besides
-- ARGV: 1 <tenant>:<session id>; owner ("": nobody); an epoch that is kept is not before this; turn id;
--   whether it is refused if the session is busy; agent whose state is asked for, or ""; with an
--   idempotency key: that, and a turn of this key whose record is gone, or ""
--   2 the turn's record; with a key: 3 digest of the request
-- Answers: again, epoch of the lease or 0, holder, end of the log, the turn, state,
--                 1 if other turns are unfinished too
--          used, 0, holder, end of the log, the key's value
--          busy, how many turns are unfinished
--          new, epoch of the lease or 0, holder, end of the log, the turn's number, state,
--               1 if unfinished turns were claimed with it
local TURN, EXTRA = KEYS[12], KEYS[13]
local SINCE, RECORD, DIGEST = EPOCH, ARGV[2], ARGV[3]
local TURN_ID, REJECT, AGENT, KEY, GONE = unpack(ROW, 4)

local exists = it ~= nil
it = it or nothing()
-- an owner that was silent still holds what nobody took
local mine = OWNER ~= '' and it.owner == OWNER and it.held == 1
local held_by = mine and OWNER or holder()

local function state_if(given)
  return given and AGENT ~= '' and states().loaded(EXTRA, AGENT)
end

if KEY then
  local used = call('HGET', SESSION, 'k:' .. KEY)
  local used_by = used and string.sub(used, 17)
  if used_by and used_by ~= GONE and used_by ~= TURN_ID then
    return {'used', 0, held_by, it.end_epoch, it.end_seq, used}
  end
end
if REJECT and it.queue ~= '' and call('EXISTS', TURN) == 0 then
  local _, unfinished = string.gsub(it.queue, '%S+', '')
  return {'busy', unfinished}
end
local number = it.accepted + 1
-- only where the session is given with it, it may have begun
local given = OWNER ~= '' and held_by == ''
local kept = (given and 'U' or 'P') .. NOWHERE .. struct.pack('>I4', number) .. RECORD
if not exists then
  -- the first write of every step is one that a full Redis refuses: then nothing is done
  call('SET', TURN, kept)
  make()
elseif not call('SET', TURN, kept, 'NX') then
  kept = call('GET', TURN)
  mine = mine and not ended(kept)
  local others = mine and it.queue ~= TURN_ID
  return {'again', mine and it.epoch or 0, held_by, it.end_epoch, it.end_seq, kept, state_if(mine),
    others and 1 or 0}
elseif it.queue == '' then
  call('PERSIST', SESSION)
end
call('RPUSH', IDS, TURN_ID)
local others = it.queue ~= ''
it.queue = others and it.queue .. ' ' .. TURN_ID or TURN_ID

if given then
  local keeps = it.held == 0 and it.owner == OWNER and it.epoch >= SINCE
  it.epoch = keeps and it.epoch or later_epoch(SINCE)
  it.owner, it.held = OWNER, 1
  if it.end_seq == 0 then
    it.end_epoch = it.epoch
  end
  call('HSET', WORK, NAME, OWNER)
elseif held_by == '' then
  nudges().offer()
  if it.held == 1 then
    -- it is still its holder's, should that come to life again
    call('HSET', WORK, NAME, it.owner)
  end
elseif held_by ~= OWNER then
  call('RPUSH', INBOX, '+' .. number .. ':' .. TURN_ID)
  it.letters = it.letters + 1
  nudges().tell(held_by, 'inbox')
end
it.accepted, it.used = number, now_us
save()
if KEY then
  call('HSET', SESSION, 'k:' .. KEY, DIGEST .. TURN_ID)
end
if OWNER ~= '' then
  seen(OWNER)
end
return {'new', given and it.epoch or 0, given and OWNER or held_by, it.end_epoch, it.end_seq, number,
  state_if(given), given and others and 1 or 0}
