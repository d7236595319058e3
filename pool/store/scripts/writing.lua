-- What scripts that write a session's log have behind log.lua.

-- Add events, of which there are some if `first` is a place. What keeps them from it, or nil.
-- gap: what the owner wrote before them is lost. It shall claim the session anew.
local function add_events(first, last, batch)
  if first == 0 then
    return nil
  elseif first > it.end_seq + 1 then
    nudges().offer()
    return 'gap'
  elseif first <= it.end_seq then
    return 'behind'
  end
  local length = call('RPUSH', LOG, struct.pack('>I8I8I4', EPOCH, last, now / 1000) .. batch)
  if length == 1 and it.end_seq > 0 then
    call('HSET', SESSION, 'b', int(it.end_epoch) .. '-' .. int(it.end_seq))
  end
  if length > BATCHES_MAX then
    drop_batch()
  end
end

-- A turn's head with the place before its first event, if that is `seq` (-1: none of its events is
-- here) and the log ended as it still says before these events; as it was if it has a place.
local function placed(head, seq)
  if seq < 0 or string.sub(head, 2, 17) ~= NOWHERE then
    return head
  end
  local epoch = seq > it.end_seq and EPOCH or it.end_epoch
  return string.sub(head, 1, 1) .. struct.pack('>I8I8', epoch, seq) .. string.sub(head, 18)
end

-- Other turns whose first event is perhaps among these: KEYS from `first_key`, the places before
-- those events `starts`.
local function place_others(first_key, starts)
  for i, start in ipairs(starts) do
    local key = KEYS[first_key + i - 1]
    local head = call('GETRANGE', key, 0, HEAD_END)
    if head ~= '' then
      call('SETRANGE', key, 0, placed(head, start))
    end
  end
end

-- The log ends with the event `last`.
local function log_ends(last)
  if last > 0 then
    it.end_epoch, it.end_seq = EPOCH, last
  end
end
