-- Sends the body that WRK_BODY names, if any, with the lines of WRK_HEADERS as headers, and prints
-- the result as one line of numbers: requests, µs that they took together, p50 and p99 of one in
-- µs, and how many failed. WRK_WATCH names a header that holds a number: its median is printed, too.

local path = os.getenv("WRK_BODY")
if path then
  local file = assert(io.open(path, "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  wrk.headers["Content-Type"] = "application/json"
  file:close()
  for name, value in (os.getenv("WRK_HEADERS") or ""):gmatch("([^:\n]+): ([^\n]+)") do
    wrk.headers[name] = value
  end
end

local watched = os.getenv("WRK_WATCH")
local threads = {}
if watched then
  -- Global, as the thread's values are read by the main one at the end.
  values = {}
  function setup(thread)
    threads[#threads + 1] = thread
  end
  function response(status, headers)
    values[#values + 1] = tonumber(headers[watched])
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  print(string.format("RESULT %d %d %d %d %d", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), failed))
  for _, thread in ipairs(threads) do
    local all = thread:get("values")
    table.sort(all)
    print(string.format("WATCHED %d", all[math.ceil(#all / 2)]))
  end
end
