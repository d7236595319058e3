-- What tells others that there is something for them: functions, made when they are asked for, as
-- most turns concern nobody else.
local function nudges()
  local function tell(owner, kind)
    call('PUBLISH', PREFIX .. ':to:' .. owner, kind .. ' ' .. NAME)
  end

  local function offer()
    call('HSET', WORK, NAME, '')
    call('PUBLISH', PREFIX .. ':all', 'work ' .. NAME .. ' ' .. OWNER)
  end

  -- the watchers that live, save the holder
  local function watchers(holder)
    local found = {}
    for _, watcher in ipairs(call('SMEMBERS', WATCH)) do
      if watcher ~= holder and lives(watcher) then
        found[#found + 1] = watcher
      end
    end
    return found
  end

  -- whether others watch the log; they are told to look
  local function tell_watchers()
    local found = watchers(OWNER)
    for _, watcher in ipairs(found) do
      tell(watcher, 'events')
    end
    return #found > 0 and 1 or 0
  end

  return {tell = tell, offer = offer, watchers = watchers, tell_watchers = tell_watchers}
end
