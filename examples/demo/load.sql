-- Eight videos of 250 segments, four seconds each, from synopses.tsv in the working directory.

BEGIN;

CREATE TEMPORARY TABLE synopsis (
    n            integer GENERATED ALWAYS AS IDENTITY (MINVALUE 0 START 0),
    package      text NOT NULL,
    section      text NOT NULL,
    description  text NOT NULL
) ON COMMIT DROP;

\copy synopsis (package, section, description) FROM 'synopses.tsv'

INSERT INTO video_files (video_name, video_path, language, video_duration, total_segments, width, height, fps,
                         phase1_status, phase1_segments_created, phase2_status, phase2_segments_analyzed)
SELECT 'packages-' || n / 250 + 1, '/videos/packages-' || n / 250 + 1 || '.mp4', 'en', 4.0 * count(*), count(*),
       1920, 1080, 25,
       'completed', count(*), 'completed', count(*)
FROM synopsis
GROUP BY n / 250;

INSERT INTO video_segments (id, video_name, video_path, segment_index, start_time, end_time, duration,
                            description, keywords, confidence, content_type)
SELECT package, video_name, video_path, n % 250, 4.0 * (n % 250), 4.0 * (n % 250) + 4.0, 4.0,
       description, section, 'high', 'package synopsis'
FROM synopsis
JOIN video_files ON video_name = 'packages-' || n / 250 + 1;

COMMIT;

SELECT video_name, total_segments AS segments, id AS first_package, keywords AS section, description
FROM video_files
JOIN video_segments USING (video_name)
WHERE segment_index = 0
ORDER BY video_name;
