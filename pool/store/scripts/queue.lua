-- What scripts about a session's unfinished turns have behind session.lua.

local function in_queue(id)
  return string.find(' ' .. it.queue .. ' ', ' ' .. id .. ' ', 1, true)
end

local function listed()
  local ids = {}
  for id in string.gmatch(it.queue, '%S+') do
    ids[#ids + 1] = id
  end
  return ids
end
